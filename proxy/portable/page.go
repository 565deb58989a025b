package portable

import (
	"html"
	"net/http"
	"strconv"

	"muster/proxy/balance"
)

// page is an answer that is made here, for a browser.
func page(a balance.Answer, id string) string {
	title := html.EscapeString(strconv.Itoa(a.Status) + " " + http.StatusText(a.Status))
	return "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n" +
		"<title>" + title + "</title>\n<h1>" + title + "</h1>\n<p>" + html.EscapeString(a.Reason) + "</p>\n" +
		"<p>Request <code>" + html.EscapeString(id) + "</code></p>\n</html>\n"
}
