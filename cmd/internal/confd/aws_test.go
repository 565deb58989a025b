package confd_test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/rogpeppe/go-internal/testscript"

	"muster/internal/awstest"
	"muster/internal/proctest"
)

// awsCommand is what a script may do with a service of AWS: aws start SERVICE
// runs one and leads confd to it; aws put KEY VALUE, put-number KEY N, del KEY,
// put-certificate ARN TEXT CHAIN PRIVATE; aws stop, restart; aws throttle N and deny OP... refuse requests; aws asked OP N waits
// until there were N; aws expire, and renew FILE, which writes credentials that
// are accepted from then on; aws conns N says how many connections are open.
type awsCommand struct {
	t      *testing.T
	server *awstest.Server
	keys   awstest.Keeper
	age    int // of the credentials
}

func (c *awsCommand) run(ts *testscript.TestScript, _ bool, args []string) {
	switch args[0] {
	case "start":
		c.start(ts, args[1])
	case "put":
		c.keys.Put(args[1], strings.Join(args[2:], " "))
	case "put-certificate":
		c.keys.(*awstest.ACM).PutCertificate(args[1], awstest.Certificate{Text: args[2], Chain: args[3], Key: args[4]})
	case "put-number":
		c.keys.(*awstest.Dynalite).PutAttribute(args[1], &types.AttributeValueMemberN{Value: args[2]})
	case "del":
		c.keys.Delete(args[1])
	case "stop":
		c.server.Stop()
		if d, ok := c.keys.(*awstest.Dynalite); ok {
			d.Kill()
		}
	case "restart":
		if d, ok := c.keys.(*awstest.Dynalite); ok {
			d.Restart()
		}
		c.server.Start()
	case "throttle":
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		c.server.Throttle(n)
	case "deny":
		c.server.Deny(args[1:]...)
	case "asked":
		n, err := strconv.Atoi(args[2])
		ts.Check(err)
		proctest.Eventually(c.t, args[1], func() bool { return c.server.Asked(args[1]) >= n })
	case "expire":
		c.server.Expire(c.credentials().AccessKey)
	case "renew":
		c.age++
		now := c.credentials()
		c.server.Accept(now)
		text := "[default]\naws_access_key_id = " + now.AccessKey + "\naws_secret_access_key = " + now.Secret + "\n"
		if now.Token != "" {
			text += "aws_session_token = " + now.Token + "\n"
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
	case "conns":
		if open, _ := c.server.Conns(); strconv.Itoa(open) != args[1] {
			ts.Fatalf("%d connections are open, want %s", open, args[1])
		}
	default:
		ts.Fatalf("aws %s: unknown", args[0])
	}
}

func (c *awsCommand) serve(k awstest.Keeper) { c.keys, c.server = k, awstest.Start(c.t, k) }

// credentials are those of the age, as a role has them: they come and go.
func (c *awsCommand) credentials() awstest.Credentials {
	if c.age == 0 {
		return awstest.Default
	}
	n := strconv.Itoa(c.age)
	return awstest.Credentials{AccessKey: "ASIAROLE" + n, Secret: "secret-" + n, Token: "token-" + n}
}

func (c *awsCommand) start(ts *testscript.TestScript, service string) {
	switch service {
	case "dynamodb":
		d := awstest.StartDynalite(c.t, awstest.Table)
		c.serve(d)
	case "ssm":
		c.serve(awstest.NewSSM())
	case "secretsmanager":
		c.serve(awstest.NewSecrets())
	case "acm":
		c.serve(awstest.NewACM())
	case "imds":
		c.serve(awstest.NewIMDS())
	default:
		ts.Fatalf("aws start %s: unknown", service)
	}
	for _, v := range awstest.Environ(c.server, awstest.Default) {
		name, value, _ := strings.Cut(v, "=")
		ts.Setenv(name, value)
	}
	if service == "imds" {
		ts.Setenv("AWS_EC2_METADATA_DISABLED", "false")
		ts.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", c.server.URL())
	}
	ts.Setenv("AWS", c.server.Addr())
	ts.Setenv("CERTIFICATES", awstest.CertificatePrefix)
}
