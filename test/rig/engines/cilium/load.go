package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kubeyaml "k8s.io/apimachinery/pkg/util/yaml"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	ipcachetypes "github.com/cilium/cilium/pkg/ipcache/types"
	"github.com/cilium/cilium/pkg/k8s"
	v2 "github.com/cilium/cilium/pkg/k8s/apis/cilium.io/v2"
	slimnet "github.com/cilium/cilium/pkg/k8s/slim/k8s/api/networking/v1"
	"github.com/cilium/cilium/pkg/policy/api"
	"github.com/cilium/cilium/pkg/policy/types"
	policyutils "github.com/cilium/cilium/pkg/policy/utils"
)

// load parses with Cilium's own code and puts the rules into the repository.
func (e *engine) load(y string) []Object {
	out := []Object{}
	dec := kubeyaml.NewYAMLOrJSONDecoder(strings.NewReader(y), 512*1024)
	for {
		raw := map[string]any{}
		err := dec.Decode(&raw)
		if err == io.EOF {
			return out
		}
		if err != nil {
			return append(out, Object{Kind: "YAML", Error: err.Error()})
		}
		if len(raw) == 0 {
			continue
		}
		u := &unstructured.Unstructured{Object: raw}
		o := Object{Kind: u.GetKind(), Name: strings.TrimPrefix(u.GetNamespace()+"/"+u.GetName(), "/")}
		ns := u.GetNamespace()
		if ns == "" && (o.Kind == "CiliumNetworkPolicy" || o.Kind == "NetworkPolicy") {
			ns = "default"
		}
		js, _ := json.Marshal(raw)
		var entries types.PolicyEntries
		strict := func(v any) error {
			d := json.NewDecoder(bytes.NewReader(js))
			d.DisallowUnknownFields()
			return d.Decode(v)
		}
		switch u.GetAPIVersion() + " " + u.GetKind() {
		case "cilium.io/v2 CiliumNetworkPolicy":
			p := &v2.CiliumNetworkPolicy{}
			if err = strict(p); err == nil {
				if p.Namespace == "" {
					p.Namespace = "default"
				}
				var rules api.Rules
				if rules, err = p.Parse(e.log, "default"); err == nil {
					entries = policyutils.RulesToPolicyEntries(rules)
				}
			}
		case "cilium.io/v2 CiliumClusterwideNetworkPolicy":
			p := &v2.CiliumClusterwideNetworkPolicy{}
			if err = strict(p); err == nil {
				var rules api.Rules
				if rules, err = p.Parse(e.log, "default"); err == nil {
					entries = policyutils.RulesToPolicyEntries(rules)
				}
			}
		case "networking.k8s.io/v1 NetworkPolicy":
			p := &slimnet.NetworkPolicy{}
			if err = strict(&networkingv1.NetworkPolicy{}); err != nil { // Cilium's slim type knows fewer fields
				break
			}
			if err = json.Unmarshal(js, p); err == nil {
				entries, err = k8s.ParseNetworkPolicy(e.log, "default", p)
			}
		case "policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy":
			p := &policyv1alpha2.ClusterNetworkPolicy{}
			if err = strict(p); err == nil {
				entries, err = k8s.ParseClusterNetworkPolicy(e.log, "default", p)
			}
		default:
			err = fmt.Errorf("unknown kind %s %s", u.GetAPIVersion(), u.GetKind())
		}
		if err != nil {
			o.Error = err.Error()
		} else {
			o.Accepted = true
			if os.Getenv("CILIUM_DEBUG") != "" {
				for _, x := range entries {
					fmt.Fprintf(os.Stderr, "entry %s subject=%v l3=%v verdict=%v tier=%v prio=%v defaultDeny=%v l4=%v\n", o.Name, x.Subject, x.L3, x.Verdict, x.Tier, x.Priority, x.DefaultDeny, x.L4)
				}
			}
			o.Entries = len(entries)
			e.repo.ReplaceByResource(entries, ipcachetypes.NewResourceID(map[string]ipcachetypes.ResourceKind{"CiliumNetworkPolicy": ipcachetypes.ResourceKindCNP,
				"CiliumClusterwideNetworkPolicy": ipcachetypes.ResourceKindCCNP, "NetworkPolicy": ipcachetypes.ResourceKindNetpol,
				"ClusterNetworkPolicy": ipcachetypes.ResourceKindKCNP}[o.Kind], ns, u.GetName()))
		}
		out = append(out, o)
	}
}
