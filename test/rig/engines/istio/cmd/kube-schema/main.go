// Command kube-schema says whether a kube-apiserver would take objects by their CustomResourceDefinitions: unknown fields, the
// structural schema, list types and CEL rules, by the API server's own code. Generic metadata (names, labels) is not checked.
// It reads {"objects":[…]} from stdin, a line each, and answers {"problems":[[…],…]}: for each object its problems, none if it is
// taken. A failure is {"error":"…"}. Its arguments are CRD files (YAML).
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"signet.test/rig/istio/internal/schema"
)

const longestLine = 256 << 20

func main() {
	if err := serve(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "kube-schema:", err)
		os.Exit(1)
	}
}

func serve(files []string) error {
	crds, err := schema.Read(files...)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, longestLine)
	for in.Scan() {
		var q struct {
			Objects []map[string]any `json:"objects"`
		}
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			if err := out.Encode(map[string]any{"error": err.Error()}); err != nil {
				return err
			}
			continue
		}
		problems := make([][]string, len(q.Objects))
		for i, o := range q.Objects {
			problems[i] = append([]string{}, crds.Check(&unstructured.Unstructured{Object: o})...)
		}
		if err := out.Encode(map[string]any{"problems": problems}); err != nil {
			return err
		}
	}
	return in.Err()
}
