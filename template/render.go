package template

import "fmt"

// A SourceError is why the template at Path can't be used.
type SourceError struct {
	Path    string
	Missing bool  // there is no such file
	Err     error // what is wrong with it otherwise, with file and line
}

func (e *SourceError) Error() string {
	if e.Missing {
		return fmt.Sprintf("template %s: no such file", e.Path)
	}
	return fmt.Sprintf("template %s: %v", e.Path, e.Err)
}

func (e *SourceError) Unwrap() error { return e.Err }
