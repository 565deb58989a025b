package dynamodb_test

import (
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"muster/backends/dynamodb"
	"muster/internal/awstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open opens the table of a server that Setenv has named, read every 50 ms.
func open(t testing.TB, parameters string, log *slog.Logger) *dynamodb.Store {
	t.Helper()
	s, err := dynamodb.Open("dynamodb:"+awstest.Table+"?interval=50ms"+parameters, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// behind is a dynalite behind a server that checks signatures, as the environment
// says.
func behind(t testing.TB) (*awstest.Dynalite, *awstest.Server) {
	t.Helper()
	d := awstest.StartDynalite(t, awstest.Table)
	s := awstest.Start(t, d)
	awstest.Setenv(t, s, awstest.Default)
	return d, s
}
