package near

import "testing"

func TestMiss(t *testing.T) {
	flags := []string{"listen", "admin", "store", "prefix", "config"}
	for word, want := range map[string]string{
		"listne":  "listen",
		"stroe":   "store",
		"prefixx": "prefix",
		"confg":   "config",
		"listen":  "listen",
		"x":       "",
		"weight":  "",
		"":        "",
	} {
		if got := Miss(word, flags); got != want {
			t.Errorf("Miss(%q) = %q, want %q", word, got, want)
		}
	}
}
