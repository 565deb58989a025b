package template_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"muster/backends/env"
	"muster/template"
)

// Render one file from the environment.
func Example() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for name, text := range map[string]string{
		"conf.d/motd.toml": fmt.Sprintf("[template]\nsrc = 'motd'\ndest = '%s/motd.out'\nkeys = ['/site']\n", dir),
		"templates/motd":   "Welcome to {{getv \"/site/name\"}}.\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			log.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			log.Fatal(err)
		}
	}
	engine, err := template.New(template.Config{
		Confdir: dir,
		Store:   env.New(env.Config{Environ: func() []string { return []string{"SITE_NAME=Oslo"} }}),
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := engine.Once(context.Background()); err != nil {
		log.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "motd.out"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(text))
	// Output: Welcome to Oslo.
}
