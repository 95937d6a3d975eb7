package main

import (
	"regexp"
	"strings"

	ciliumproxy "github.com/cilium/proxy/go/cilium/api"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/policy/types"
	"github.com/cilium/cilium/pkg/u8proto"
)

// covers says whether a filter is about the port of the request.
func covers(f *policy.L4Filter, q *Request, proto u8proto.U8proto) bool {
	port := f.Port
	if f.PortName != "" {
		port = q.NamedPorts[f.PortName]
	}
	end := max(f.EndPort, port)
	return (f.U8Proto == proto || f.U8Proto == 0) && (port == 0 || q.Port >= port && q.Port <= end)
}

// http adds what the L7 proxy makes of the request.
func (e *engine) http(s *Side, direction policy.L4DirectionPolicy, peer *identity.Identity, q *Request, proto u8proto.U8proto) {
	all := &ciliumproxy.HttpNetworkPolicyRules{}
	open, any := false, false
	for i := range direction.PortRules {
		for f := range direction.PortRules[i].Filters() {
			if !covers(f, q, proto) {
				continue
			}
			for selector, rules := range f.PerSelectorPolicies {
				if !selector.IsWildcard() && !selector.Selects(peer.ID) {
					continue
				}
				any = true
				if rules == nil || len(rules.L7Rules.HTTP) == 0 {
					open = open || rules == nil || rules.Verdict == types.Allow
					continue
				}
				r, _ := e.tr.GetEnvoyHTTPRules(&rules.L7Rules, "")
				all.HttpRules = append(all.HttpRules, r.HttpRules...)
			}
		}
	}
	s.HTTP, _ = protojson.Marshal(all)
	switch {
	case open:
		s.L7 = "allow" // an L4-only rule covers the same port: L7 rules have no effect
	case !any:
		s.L7 = "deny"
	case q.HTTP == nil:
		s.L7 = "needs http"
	default:
		s.L7 = "deny"
		for _, r := range all.HttpRules {
			if httpMatch(r, q.HTTP) {
				s.L7 = "allow"
			}
		}
	}
}

func httpMatch(r *ciliumproxy.HttpNetworkPolicyRule, h *HTTP) bool {
	get := func(n string) (string, bool) {
		switch n {
		case ":path":
			return h.Path, true
		case ":method":
			return h.Method, true
		case ":authority":
			return h.Host, true
		}
		for k, v := range h.Headers {
			if strings.EqualFold(k, n) {
				return v, true
			}
		}
		return "", false
	}
	for _, m := range r.Headers {
		v, ok := get(m.Name)
		res := ok
		if sm := m.GetStringMatch(); sm != nil && ok {
			if re := sm.GetSafeRegex(); re != nil {
				x, err := regexp.Compile("^(?s:" + re.Regex + ")$")
				res = err == nil && x.MatchString(v)
			} else {
				res = sm.GetExact() == v
			}
		}
		if res == m.InvertMatch {
			return false
		}
	}
	return true
}
