// App is what runs in a container of TestDockerCheck: it is healthy while the
// file /well is there.
package main

import (
	"fmt"
	"math"
	"os"
	"time"
)

func main() {
	what := ""
	if len(os.Args) > 1 {
		what = os.Args[1]
	}
	switch what {
	case "check":
		if _, err := os.Stat("/well"); err != nil {
			fmt.Println("not yet")
			os.Exit(1)
		}
	case "well":
		if err := os.WriteFile("/well", nil, 0o644); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	case "ill":
		if err := os.Remove("/well"); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	default:
		time.Sleep(math.MaxInt64)
	}
}
