package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"sort"
	"strings"

	"github.com/cilium/cilium/pkg/endpoint/regeneration"
	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/u8proto"
)

// owner is the endpoint that Cilium computes a policy for.
type owner struct {
	id    uint64
	named map[string]uint16
}

func (o *owner) GetID() uint64 { return o.id }
func (o *owner) GetIngressNamedPort(name string, _ u8proto.U8proto) uint16 {
	return o.named[name]
}
func (o *owner) PolicyDebug(string, ...any) {}
func (o *owner) IsHost() bool               { return false }
func (o *owner) PreviousMapStateSizes() policy.MapStateSizes {
	return policy.MapStateSizes{}
}
func (o *owner) RegenerateIfAlive(*regeneration.ExternalRegenerationMetadata) <-chan bool {
	c := make(chan bool)
	close(c)
	return c
}

// endpoint is an endpoint's policy, distilled into its map.
type endpoint struct {
	selector policy.SelectorPolicy
	policy   *policy.EndpointPolicy
}

// endpoint computes a policy once for each identity and set of named ports. Every identity must be known before.
func (e *engine) endpoint(self *identity.Identity, named map[string]uint16) (endpoint, error) {
	key := fmt.Sprint(self.ID)
	for _, name := range slices.Sorted(maps.Keys(named)) {
		key += fmt.Sprintf(",%s=%d", name, named[name])
	}
	if known, ok := e.endpoints[key]; ok {
		return known, nil
	}
	e.idm.Add(self)
	selector, _, err := e.repo.ComputeSelectorPolicy(self)
	if err != nil {
		return endpoint{}, err
	}
	o := &owner{id: uint64(len(e.endpoints) + 1), named: named}
	computed := endpoint{selector, selector.DistillPolicy(e.log, o, map[string]uint16{policy.FallbackRedirectID: math.MaxUint16})}
	_ = computed.policy.Ready()
	e.endpoints[key] = computed
	if os.Getenv("CILIUM_DEBUG") != "" {
		fmt.Fprintf(os.Stderr, "self=%d %v\n", self.ID, self.LabelArray)
		for k, v := range computed.policy.Entries() {
			fmt.Fprintf(os.Stderr, "   %v -> %v\n", k, v)
		}
	}
	return computed, nil
}

// side looks the flow up in self's policy map (as policy.LookupFlow does) and, beyond that, at the L7 redirect.
func (e *engine) side(self, peer *identity.Identity, ingress bool, q *Request, proto u8proto.U8proto) (Side, error) {
	p, err := e.endpoint(self, q.NamedPorts)
	if err != nil {
		return Side{}, err
	}
	key := policy.EgressKey()
	if ingress {
		key = policy.IngressKey()
	}
	entry, meta, _ := p.policy.Lookup(key.WithIdentity(peer.ID).WithPortProto(proto, q.Port))
	s := Side{L4: "allow"}
	if entry.IsDeny() {
		s.L4 = "deny"
	}
	for _, l := range meta.LabelArray() {
		for _, x := range l {
			if strings.HasSuffix(x.Key, "policy.name") {
				s.Rules = append(s.Rules, x.Value)
			}
		}
	}
	sort.Strings(s.Rules)
	for a := range p.selector.GetAuthTypes(peer.ID) {
		s.Auth = append(s.Auth, a.String())
	}
	if s.L4 == "allow" && entry.ProxyPort != 0 {
		s.Redirect = true
		direction := p.policy.SelectorPolicy.L4Policy.Egress
		if ingress {
			direction = p.policy.SelectorPolicy.L4Policy.Ingress
		}
		e.http(&s, direction, peer, q, proto)
	}
	return s, nil
}

// decideAll makes the identities known first: a policy map holds those that are known when it is computed.
func (e *engine) decideAll(qs []Request) []Decision {
	for _, q := range qs {
		for _, p := range []Peer{q.From, q.To} {
			_, _ = e.identity(p) // decide says what is wrong with it
		}
	}
	out := make([]Decision, 0, len(qs))
	for _, q := range qs {
		out = append(out, e.decide(q))
	}
	return out
}

func (e *engine) decide(q Request) Decision {
	d := Decision{ID: q.ID}
	fail := func(err error) Decision { d.Decision, d.Error = "error", err.Error(); return d }
	from, err := e.identity(q.From)
	if err != nil {
		return fail(err)
	}
	to, err := e.identity(q.To)
	if err != nil {
		return fail(err)
	}
	proto, err := u8proto.ParseProtocol(cmp.Or(q.Protocol, "TCP"))
	if err != nil {
		return fail(err)
	}
	d.Egress, d.Ingress = Side{L4: "allow"}, Side{L4: "allow"}
	if q.From.IP == "" && q.From.Entity == "" { // policy is enforced on pods only
		if d.Egress, err = e.side(from, to, false, &q, proto); err != nil {
			return fail(err)
		}
	}
	if q.To.IP == "" && q.To.Entity == "" {
		if d.Ingress, err = e.side(to, from, true, &q, proto); err != nil {
			return fail(err)
		}
	}
	d.Decision = "allow"
	for _, s := range []Side{d.Egress, d.Ingress} {
		if s.L4 == "deny" || s.L7 == "deny" {
			d.Decision = "deny"
		} else if s.L7 == "needs http" && d.Decision == "allow" {
			d.Decision = "l7"
		}
	}
	return d
}
