package render

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-multierror"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kubeyaml "k8s.io/apimachinery/pkg/util/yaml"

	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/schema/resource"

	"signet.test/rig/istio/internal/schema"
)

// ObjectResult is what admission says about one object.
type ObjectResult struct {
	Kind      string   `json:"kind"`
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Schema    []string `json:"schemaErrors,omitempty"` // CRD OpenAPI + CEL, as kube-apiserver would say
	Errors    []string `json:"errors,omitempty"`       // istiod validating webhook
	Warnings  []string `json:"warnings,omitempty"`
	Accepted  bool     `json:"accepted"`
}

func lines(err error) []string {
	if err == nil {
		return nil
	}
	if me, ok := err.(*multierror.Error); ok {
		var out []string
		for _, e := range me.Errors {
			out = append(out, e.Error())
		}
		return out
	}
	return []string{err.Error()}
}

var crdSets sync.Map // file list -> schema.Set

func crdSet(files string) (schema.Set, error) {
	if s, ok := crdSets.Load(files); ok {
		return s.(schema.Set), nil
	}
	s, err := schema.Read(strings.Split(files, ",")...)
	if err == nil {
		crdSets.Store(files, s)
	}
	return s, err
}

// Parse decodes every document, asking the CRD schemas (+CEL) and the webhook's validation about each.
func Parse(o Options) ([]config.Config, []ObjectResult, error) {
	var crds schema.Set
	if o.CRDFile != "" {
		var err error
		if crds, err = crdSet(o.CRDFile); err != nil {
			return nil, nil, fmt.Errorf("crd file: %w", err)
		}
	}
	var cfgs []config.Config
	res := []ObjectResult{}
	dec := kubeyaml.NewYAMLOrJSONDecoder(strings.NewReader(o.YAML), 512*1024)
	seq := 0
	for {
		raw := map[string]any{}
		err := dec.Decode(&raw)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("yaml: %w", err)
		}
		if len(raw) == 0 {
			continue
		}
		seq++
		un := &unstructured.Unstructured{Object: raw}
		r := ObjectResult{Kind: un.GetKind(), Namespace: un.GetNamespace(), Name: un.GetName()}
		if crds != nil {
			r.Schema = crds.Check(un)
		}
		js, _ := json.Marshal(raw)
		var obj crd.IstioKind
		if err := json.Unmarshal(js, &obj); err != nil {
			r.Errors = append(r.Errors, "cannot decode configuration: "+err.Error())
			res = append(res, r)
			continue
		}
		gvk := obj.GroupVersionKind()
		s, ok := collections.Pilot.FindByGroupKind(resource.FromKubernetesGVK(&gvk))
		if !ok {
			r.Errors = append(r.Errors, "unrecognized type "+gvk.String())
			res = append(res, r)
			continue
		}
		cfg, err := crd.ConvertObject(s, &obj, "cluster.local")
		if err != nil {
			r.Errors = append(r.Errors, "error decoding configuration: "+err.Error())
			res = append(res, r)
			continue
		}
		// webhooks see the same schema object as stored; version is not relevant
		cfg.GroupVersionKind = s.GroupVersionKind()
		if cfg.Namespace == "" {
			cfg.Namespace = "default"
		}
		if cfg.CreationTimestamp.IsZero() {
			// document order = age, so that "oldest wins" rules are deterministic
			cfg.CreationTimestamp = time.Unix(1700000000+int64(seq), 0)
		}
		w, err := s.ValidateConfig(*cfg)
		r.Errors = append(r.Errors, lines(err)...)
		r.Warnings = lines(w)
		r.Accepted = len(r.Errors) == 0 && len(r.Schema) == 0
		res = append(res, r)
		if r.Accepted || o.KeepInvalid {
			cfgs = append(cfgs, *cfg)
		}
	}
	return cfgs, res, nil
}
