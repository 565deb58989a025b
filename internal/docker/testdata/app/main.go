// App is what runs in the containers of the tests. It says its host name to whoever
// asks at :8080, and is healthy while the file /well is there: "app check" looks,
// "app well" and "app ill" make it so. Told to end, it lingers for $LINGER.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	what := "serve"
	if len(os.Args) > 1 {
		what = os.Args[1]
	}
	var err error
	switch what {
	case "check":
		_, err = os.Stat("/well")
	case "well":
		err = os.WriteFile("/well", nil, 0o644)
	case "ill":
		err = os.Remove("/well")
	default:
		err = serve()
	}
	if err != nil {
		log.Fatal(err)
	}
}

func serve() error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGQUIT)
	signal.Ignore(syscall.SIGHUP)
	go func() {
		<-ended
		linger, _ := time.ParseDuration(os.Getenv("LINGER"))
		time.Sleep(linger)
		os.Exit(0)
	}()
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, name) })
	return http.ListenAndServe(":8080", nil)
}
