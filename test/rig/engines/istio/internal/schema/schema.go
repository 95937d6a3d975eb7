// Package schema asks k8s.io/apiextensions-apiserver, as a library, what a CustomResourceDefinition says about an object: unknown
// fields, OpenAPI, list types, CEL. Generic metadata rules (names, label syntax) are not looked at.
package schema

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	crdv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	kubejson "k8s.io/apimachinery/pkg/util/json"
	kubeyaml "k8s.io/apimachinery/pkg/util/yaml"
	celapi "k8s.io/apiserver/pkg/apis/cel"
)

// kind is one served version of one CRD; it compiles itself when first asked.
type kind struct {
	source *crdv1.JSONSchemaProps
	once   sync.Once
	err    error
	shape  *structural.Structural
	open   validation.SchemaValidator
	rules  *cel.Validator
}

func (k *kind) compile() {
	var in apiextensions.JSONSchemaProps
	if k.err = crdv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(k.source, &in, nil); k.err != nil {
		return
	}
	if k.shape, k.err = structural.NewStructural(&in); k.err != nil {
		return
	}
	if k.open, _, k.err = validation.NewSchemaValidator(&in); k.err != nil {
		return
	}
	k.rules = cel.NewValidator(k.shape, true, celapi.PerCallLimit)
}

// Set is the kinds of some CRD files, keyed "group/version Kind".
type Set map[string]*kind

// Read takes v1 CRDs from YAML files and passes over everything else in them.
func Read(files ...string) (Set, error) {
	s := Set{}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		for dec := kubeyaml.NewYAMLOrJSONDecoder(f, 1<<20); ; {
			var d crdv1.CustomResourceDefinition
			if err := dec.Decode(&d); err == io.EOF {
				break
			} else if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if d.Kind != "CustomResourceDefinition" || d.APIVersion != "apiextensions.k8s.io/v1" {
				continue
			}
			for _, v := range d.Spec.Versions {
				if v.Served && v.Schema != nil && v.Schema.OpenAPIV3Schema != nil {
					s[d.Spec.Group+"/"+v.Name+" "+d.Spec.Names.Kind] = &kind{source: v.Schema.OpenAPIV3Schema}
				}
			}
		}
	}
	if len(s) == 0 {
		return nil, fmt.Errorf("no CRD in %s", strings.Join(files, ", "))
	}
	return s, nil
}

// copyOf is the object as the API server holds it: whole numbers are integers there.
func copyOf(u *unstructured.Unstructured) (map[string]any, error) {
	b, err := json.Marshal(u.Object)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	return out, kubejson.Unmarshal(b, &out)
}

// Check returns one line per complaint. It fills defaults into a copy, not into u.
func (s Set) Check(u *unstructured.Unstructured) []string {
	k := s[u.GetAPIVersion()+" "+u.GetKind()]
	if k == nil {
		return []string{fmt.Sprintf("no CRD serves %s %s", u.GetAPIVersion(), u.GetKind())}
	}
	if k.once.Do(k.compile); k.err != nil {
		return []string{"CRD: " + k.err.Error()}
	}
	obj, err := copyOf(u)
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, p := range pruning.PruneWithOptions(runtime.DeepCopyJSON(obj), k.shape, true, structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		if !strings.HasPrefix(p, "metadata.") {
			out = append(out, "unknown field "+p)
		}
	}
	defaulting.Default(obj, k.shape)
	errs := validation.ValidateCustomResource(nil, obj, k.open)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, k.shape, obj)...)
	if len(errs) == 0 && k.rules != nil {
		errs, _ = k.rules.Validate(context.Background(), nil, k.shape, obj, nil, celapi.RuntimeCELCostBudget)
	}
	for _, e := range errs {
		out = append(out, e.Error())
	}
	return out
}
