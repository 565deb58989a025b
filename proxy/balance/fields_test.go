package balance

import "testing"

func TestDropped(t *testing.T) {
	for _, name := range []string{
		"X-Forwarded-For", "x-forwarded-port", "X-Forwarded-Prefix", "Forwarded", "X-Real-IP", "X-Client-Ip", "True-Client-IP",
		"X-Request-Id", "Proxy", "X-Original-Url", "X-Rewrite-URL", "Http2-Settings",
		"X_Forwarded_For", "any_thing", "X.Forwarded.For", "X-Real.Ip", "Content.Length", "Transfer!Encoding",
	} {
		if !Dropped(name) {
			t.Errorf("Dropped(%q): false", name)
		}
	}
	for _, name := range []string{"Host", "Accept", "Cookie", "X-Forward", "X-Request", "Content-Length", "X.Y", "Te", "Proxy-Foo", "X-Http-Method-Override"} {
		if Dropped(name) {
			t.Errorf("Dropped(%q): true", name)
		}
	}
}
