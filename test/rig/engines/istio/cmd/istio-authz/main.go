// Command istio-authz says what Istio does with policies: istiod's own code admits and renders them, a real Envoy enforces them.
// It reads requests from stdin and answers on stdout, one line of JSON each way, in order, until stdin ends.
//
//	{"op":"load","workload":W,"yaml":"…"}    -> {"rendered":R,"changes":[…],"loadMillis":n}   renders, and puts the listener into Envoy
//	                                            a workload with "waypoint" is that Gateway: two listeners, and CONNECT
//	{"op":"render","workload":W,"yaml":"…"}  -> {"rendered":R}                                without Envoy; "full":true adds the listener
//	{"op":"decide","requests":[…]}           -> {"decisions":[…]}                             asks the listener that was loaded last
//	{"op":"ambient","workload":W,"yaml":"…"} -> {"policies":[…]}                              what ztunnel would get, and the status
//	whatever fails                           -> {"error":"…"}
//
// Environment: ENVOY, the path of Envoy; ISTIO_CRDS, CRD files (comma-separated) for schema and CEL checks. To look closer:
// KEEP=1 keeps Envoy's folder, ENVOY_LOG=rbac:debug, ISTIO_LOG=authorization:debug.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	securityclient "istio.io/client-go/pkg/apis/security/v1"
	kubeyaml "k8s.io/apimachinery/pkg/util/yaml"

	"signet.test/rig/istio/internal/ambient"
	"signet.test/rig/istio/internal/decide"
	"signet.test/rig/istio/internal/render"
)

const longestLine = 256 << 20

type command struct {
	Op       string           `json:"op"`
	Workload workload         `json:"workload"`
	YAML     string           `json:"yaml"`
	Requests []decide.Request `json:"requests"`
	Full     bool             `json:"full"`
}

type answer = map[string]any

func main() {
	decide.Isolate()
	if err := serve(os.Getenv("ISTIO_CRDS"), os.Getenv("ENVOY")); err != nil {
		fmt.Fprintln(os.Stderr, "istio-authz:", err)
		os.Exit(1)
	}
}

func serve(crds, envoy string) error {
	e, err := decide.Start(envoy)
	if err != nil {
		return err
	}
	defer e.Close()
	out := json.NewEncoder(os.Stdout)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, longestLine)
	for in.Scan() {
		var c command
		a, err := answer(nil), json.Unmarshal(in.Bytes(), &c)
		if err == nil {
			a, err = run(e, c, crds)
		}
		if err != nil {
			a = answer{"error": err.Error()}
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	return in.Err()
}

func run(e *decide.Engine, c command, crds string) (answer, error) {
	switch c.Op {
	case "load", "render":
		o := c.Workload.options(c.YAML, crds)
		r, err := render.Run(o)
		if err != nil {
			return nil, err
		}
		if c.Full {
			r.ListenerJS = r.ListenerJSON()
		}
		if c.Op == "render" {
			return answer{"rendered": r}, nil
		}
		if r.Tunnel != nil {
			err = e.LoadWaypoint(r.Tunnel)
		} else {
			err = e.Load(r.Listener, c.Workload.bind(o), c.Workload.PodIP)
		}
		if err != nil {
			return nil, err
		}
		return answer{"rendered": r, "changes": e.Changes, "loadMillis": e.LoadMillis}, nil
	case "decide":
		ds, err := e.DecideAll(c.Requests, 8)
		return answer{"decisions": ds}, err
	case "ambient":
		policies, err := convert(c.Workload.RootNamespace, c.YAML)
		return answer{"policies": policies}, err
	}
	return nil, fmt.Errorf("unknown op %q", c.Op)
}

type ambientPolicy struct {
	Namespace     string          `json:"namespace"`
	Name          string          `json:"name"`
	Authorization json.RawMessage `json:"authorization"` // null: ztunnel gets nothing of this policy
	Status        any             `json:"status"`        // null: accepted whole
}

// convert passes over documents of other kinds.
func convert(root, y string) ([]ambientPolicy, error) {
	if root == "" {
		root = "istio-system"
	}
	out := []ambientPolicy{}
	for dec := kubeyaml.NewYAMLOrJSONDecoder(strings.NewReader(y), 512*1024); ; {
		p := &securityclient.AuthorizationPolicy{}
		if err := dec.Decode(p); err == io.EOF {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		if p.Kind != "AuthorizationPolicy" {
			continue
		}
		a, status := ambient.Convert(root, p)
		one := ambientPolicy{Namespace: p.Namespace, Name: p.Name}
		if status != nil {
			one.Status = status
		}
		if a != nil {
			b, err := protojson.Marshal(a)
			if err != nil {
				return nil, err
			}
			one.Authorization = b
		}
		out = append(out, one)
	}
}
