package awstest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"muster/internal/proctest"
)

// Table is the table that Put and Delete change.
const Table = "keys"

// A Dynalite is a DynamoDB server. Its methods fail the test themselves; they may
// be called from the test's goroutine only.
type Dynalite struct {
	tb     testing.TB
	addr   string
	script string
	proc   *proctest.Proc
	client *dynamodb.Client
	conns  http.Transport
}

// StartDynalite runs dynalite and returns when tables are there.
func StartDynalite(tb testing.TB, tables ...string) *Dynalite {
	tb.Helper()
	d := &Dynalite{tb: tb, addr: proctest.FreeAddr(tb)}
	host, port, _ := net.SplitHostPort(d.addr)
	d.script = fmt.Sprintf("require(%q)({path: %q, createTableMs: 0, deleteTableMs: 0}).listen(%s, %q)", dynalite(tb), tb.TempDir(), port, host)
	tb.Cleanup(d.conns.CloseIdleConnections)
	d.client = dynamodb.New(dynamodb.Options{
		Region: Region, BaseEndpoint: aws.String("http://" + d.addr), HTTPClient: &http.Client{Transport: &d.conns},
		Credentials: credentials.NewStaticCredentialsProvider(Default.AccessKey, Default.Secret, ""),
	})
	d.Restart()
	for _, table := range tables {
		d.createTable(table)
	}
	return d
}

// Addr is where clients connect, host:port.
func (d *Dynalite) Addr() string { return d.addr }

// Setenv leads the SDK to it, without a [Server] before it.
func (d *Dynalite) Setenv(t testing.TB) { setenv(t, environ("http://"+d.addr, Default)) }

// Kill ends the process with SIGKILL and waits until it is gone. Its data stay.
func (d *Dynalite) Kill() {
	d.tb.Helper()
	d.proc.Signal(syscall.SIGKILL)
	d.proc.Wait()
	d.conns.CloseIdleConnections()
}

// Restart starts the process again at the same address with the data that are
// there, and waits until it answers. It has to be killed before.
func (d *Dynalite) Restart() {
	d.tb.Helper()
	node := proctest.Need(d.tb, "node")
	d.proc = proctest.Start(d.tb, "dynalite "+d.addr, nil, node, "-e", d.script)
	proctest.Eventually(d.tb, "dynalite "+d.addr+" answers", func() bool {
		resp, err := http.Get("http://" + d.addr)
		if err != nil {
			return false
		}
		resp.Body.Close()
		http.DefaultClient.CloseIdleConnections()
		return true
	})
}

// createTable makes a table with the partition key "key".
func (d *Dynalite) createTable(name string) {
	d.tb.Helper()
	d.do("create table "+name, func(ctx context.Context) error {
		_, err := d.client.CreateTable(ctx, &dynamodb.CreateTableInput{
			TableName: &name, BillingMode: types.BillingModePayPerRequest,
			AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("key"), AttributeType: types.ScalarAttributeTypeS}},
			KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("key"), KeyType: types.KeyTypeHash}},
		})
		return err
	})
	proctest.Eventually(d.tb, "table "+name, func() bool {
		out, err := d.client.DescribeTable(d.tb.Context(), &dynamodb.DescribeTableInput{TableName: &name})
		return err == nil && out.Table.TableStatus == types.TableStatusActive
	})
}

// Put makes or changes an item.
func (d *Dynalite) Put(key, value string) {
	d.tb.Helper()
	d.PutAttribute(key, &types.AttributeValueMemberS{Value: value})
}

// PutAttribute is Put with a value that may be no text.
func (d *Dynalite) PutAttribute(key string, value types.AttributeValue) {
	d.tb.Helper()
	d.do("put "+key, func(ctx context.Context) error {
		_, err := d.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String(Table), Item: map[string]types.AttributeValue{
			"key": &types.AttributeValueMemberS{Value: key}, "value": value,
		}})
		return err
	})
}

// Delete removes an item, if it is there.
func (d *Dynalite) Delete(key string) {
	d.tb.Helper()
	d.do("delete "+key, func(ctx context.Context) error {
		_, err := d.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: aws.String(Table), Key: map[string]types.AttributeValue{
			"key": &types.AttributeValueMemberS{Value: key},
		}})
		return err
	})
}

func (d *Dynalite) do(what string, op func(context.Context) error) {
	d.tb.Helper()
	// Not the test's: what is put may have to be deleted in its cleanup.
	ctx, cancel := context.WithTimeout(context.Background(), proctest.Patience)
	defer cancel()
	if err := op(ctx); err != nil {
		d.tb.Fatalf("awstest: %s: %v", what, err)
	}
}

// Name is that of DynamoDB: a Dynalite is the [Service] behind a [Server], which
// checks what dynalite does not.
func (d *Dynalite) Name() string { return "dynamodb" }

// Serve passes the request on.
func (d *Dynalite) Serve(_ string, body []byte, r *http.Request) (any, *Error) {
	req, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+d.addr+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		return nil, &Error{Code: "InternalServerError", Message: err.Error(), Status: http.StatusInternalServerError}
	}
	req.Header = r.Header.Clone()
	req.Header.Del("Accept-Encoding")
	resp, err := d.conns.RoundTrip(req)
	if err != nil {
		return nil, &Error{Code: "ServiceUnavailable", Message: err.Error(), Status: http.StatusServiceUnavailable}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, &Error{Code: "ServiceUnavailable", Message: err.Error(), Status: http.StatusServiceUnavailable}
	}
	resp.Header.Del("Content-Length")
	return Raw{resp.StatusCode, resp.Header, answer}, nil
}

// dynalite is where scripts/packages has put it.
func dynalite(tb testing.TB) string {
	tb.Helper()
	root, err := proctest.Root()
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(root, ".cache", "dynalite", "node_modules", "dynalite")
	if _, err := os.Stat(path); err != nil {
		proctest.Missing(tb, "dynalite")
	}
	return path
}
