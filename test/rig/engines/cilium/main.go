// Command cilium-decide says what Cilium does with policies: its own parsing, sanitizing and policy.Repository, its endpoint policy
// and the look-up in its policy map, for CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, NetworkPolicy v1 and
// ClusterNetworkPolicy v1alpha2. It reads {"yaml":"…","requests":[…]} from stdin and answers {"objects":[…],"decisions":[…]}, a line
// each and a fresh repository each time, until stdin ends; {"error":"…"} when a line cannot be read.
//
// HTTP rules are translated to Envoy's header matchers by Cilium's own code; the matchers are evaluated here with Go's RE2 (full
// match, as Envoy does), not by cilium-envoy. CILIUM_DEBUG=1 prints policy entries and maps on stderr.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

const longestLine = 256 << 20

// Peer is a pod, an address outside the cluster, or a reserved entity.
type Peer struct {
	Namespace       string            `json:"namespace,omitempty"`
	ServiceAccount  string            `json:"serviceAccount,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	NamespaceLabels map[string]string `json:"namespaceLabels,omitempty"`
	IP              string            `json:"ip,omitempty"`
	Entity          string            `json:"entity,omitempty"` // host | remote-node | kube-apiserver | health | ingress | init | unmanaged | world
}

// HTTP is the request inside the connection.
type HTTP struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"` // with the query: Cilium matches :path
	Host    string            `json:"host"`
	Headers map[string]string `json:"headers"`
}

// Request is one question.
type Request struct {
	ID         string            `json:"id,omitempty"`
	From       Peer              `json:"from"`
	To         Peer              `json:"to"`
	Port       uint16            `json:"port"`
	Protocol   string            `json:"protocol,omitempty"`
	NamedPorts map[string]uint16 `json:"namedPorts,omitempty"`
	HTTP       *HTTP             `json:"http,omitempty"`
}

// Side is one direction's verdict.
type Side struct {
	L4       string          `json:"l4"`
	Redirect bool            `json:"redirect,omitempty"` // goes through the L7 proxy
	L7       string          `json:"l7,omitempty"`
	HTTP     json.RawMessage `json:"httpRules,omitempty"`
	Rules    []string        `json:"rules,omitempty"`
	Auth     []string        `json:"auth,omitempty"`
}

// Decision is the answer.
type Decision struct {
	ID       string `json:"id,omitempty"`
	Decision string `json:"decision"`
	Egress   Side   `json:"egress"`
	Ingress  Side   `json:"ingress"`
	Error    string `json:"error,omitempty"`
}

// Object is the admission result.
type Object struct {
	Kind     string `json:"kind"`
	Name     string `json:"name"`
	Error    string `json:"error,omitempty"`
	Entries  int    `json:"entries"`
	Accepted bool   `json:"accepted"`
}

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "cilium-decide:", err)
		os.Exit(1)
	}
}

func serve() error {
	out := json.NewEncoder(os.Stdout)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, longestLine)
	for in.Scan() {
		var q struct {
			YAML     string    `json:"yaml"`
			Requests []Request `json:"requests"`
		}
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			if err := out.Encode(map[string]string{"error": err.Error()}); err != nil {
				return err
			}
			continue
		}
		e := newEngine()
		objects := e.load(q.YAML)
		if err := out.Encode(map[string]any{"objects": objects, "decisions": e.decideAll(q.Requests)}); err != nil {
			return err
		}
	}
	return in.Err()
}
