package main

import (
	"bufio"
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// directive begins a line that names items. gofmt puts the space there: to it no directive has capitals.
var directive = regexp.MustCompile(`^// ?checklist:(.*)`)

// proof is a test and the items that it proves.
type proof struct {
	key   string // finds its outcome: a Go test's package and name, or a file and line
	label string // names it for readers
	ids   []string
}

// findProofs returns the proofs of all tests below root, in the order of their files. A directive that belongs to no test
// or names no item is an error.
func findProofs(root string, items []item) ([]proof, error) {
	var proofs []proof
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "node_modules" || strings.HasPrefix(entry.Name(), ".") && file != root):
			return filepath.SkipDir
		}
		var found []proof
		switch {
		case strings.HasSuffix(file, "_test.go"):
			found, err = goProofs(file)
		case strings.HasSuffix(file, ".test.mjs"):
			found, err = nodeProofs(file)
		}
		proofs = append(proofs, found...)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, p := range proofs {
		for _, id := range p.ids {
			if !slices.ContainsFunc(items, func(i item) bool { return i.id == id }) {
				return nil, fmt.Errorf("%s claims %q, which the checklist does not have", p.label, id)
			}
		}
	}
	return proofs, nil
}

// goProofs returns the proofs in a Go file.
func goProofs(file string) ([]proof, error) {
	source, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(source, []byte("checklist:")) {
		return nil, err
	}
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, file, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	folder := path.Dir(filepath.ToSlash(file))
	ofTest := map[*ast.CommentGroup]string{}
	for _, d := range tree.Decls {
		f, ok := d.(*ast.FuncDecl)
		if ok && f.Doc != nil && f.Recv == nil && (strings.HasPrefix(f.Name.Name, "Test") || strings.HasPrefix(f.Name.Name, "Fuzz")) {
			ofTest[f.Doc] = f.Name.Name
		}
	}
	var proofs []proof
	for _, group := range tree.Comments {
		for _, c := range group.List {
			said := directive.FindStringSubmatch(c.Text)
			if said == nil {
				continue
			}
			name, ok := ofTest[group]
			if !ok {
				return nil, fmt.Errorf("%s: the directive stands in no test's doc comment", set.Position(c.Pos()))
			}
			proofs = append(proofs, proof{key: folder + " " + name, label: folder + " " + name, ids: strings.Fields(said[1])})
		}
	}
	return proofs, nil
}

var (
	nodeTest  = regexp.MustCompile(`^\s*(?:test|it)\(\s*(.*)`)
	titleText = regexp.MustCompile("^(?:\"([^\"]*)\"|`([^`]*)`|'([^']*)')")
)

// nodeProofs returns the proofs in a file of tests for Node's test runner.
func nodeProofs(file string) ([]proof, error) {
	source, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var proofs []proof
	var ids []string // of a directive whose test is awaited
	lines := bufio.NewScanner(bytes.NewReader(source))
	for number := 1; lines.Scan(); number++ {
		if said := directive.FindStringSubmatch(strings.TrimSpace(lines.Text())); said != nil {
			ids = append(ids, strings.Fields(said[1])...)
			continue
		}
		if ids == nil {
			continue
		}
		call := nodeTest.FindStringSubmatch(lines.Text())
		if call == nil {
			return nil, fmt.Errorf("%s:%d: a directive stands above this line, which is no test", file, number)
		}
		title := call[1]
		if quoted := titleText.FindStringSubmatch(title); quoted != nil {
			title = quoted[1] + quoted[2] + quoted[3]
		}
		proofs = append(proofs, proof{
			key: fmt.Sprintf("%s:%d", filepath.ToSlash(file), number), label: filepath.ToSlash(file) + " “" + title + "”", ids: ids,
		})
		ids = nil
	}
	return proofs, lines.Err()
}
