package sidekickcmd

import "testing"

func TestQuote(t *testing.T) {
	for word, want := range map[string]string{
		"web":                     "web",
		"":                        `""`,
		"${HOST_IP}:%i":           "${HOST_IP}:%i",
		"http:/ body=ok":          `"http:/ body=ok"`,
		`http:/ body="all is ok"`: `"http:/ body=\"all is ok\""`,
		`a\b`:                     `"a\\b"`,
		"a;":                      `"a;"`,
		"a\nb":                    `"a\nb"`,
		"it's":                    `"it's"`,
	} {
		if got := quote(word); got != want {
			t.Errorf("quote(%q): got %s: want %s", word, got, want)
		}
	}
}
