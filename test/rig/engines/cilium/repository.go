package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sort"
	"strings"
	"sync"

	"github.com/cilium/cilium/pkg/crypto/certificatemanager"
	envoypolicy "github.com/cilium/cilium/pkg/envoy/policy"
	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/identity/identitymanager"
	"github.com/cilium/cilium/pkg/labels"
	"github.com/cilium/cilium/pkg/policy"
	testcert "github.com/cilium/cilium/pkg/testutils/certificatemanager"
	testpolicy "github.com/cilium/cilium/pkg/testutils/policy"
)

// engine is one policy repository, with the identities that its requests speak of.
type engine struct {
	log       *slog.Logger
	repo      *policy.Repository
	idm       identitymanager.IDManager
	tr        envoypolicy.EnvoyL7RulesTranslator
	ids       map[string]*identity.Identity
	next      identity.NumericIdentity
	cidr      identity.NumericIdentity
	endpoints map[string]endpoint
}

func newEngine() *engine {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	idm := identitymanager.NewIDManager(log)
	tr := envoypolicy.NewEnvoyL7RulesTranslator(log, certificatemanager.NewMockSecretManagerInline())
	e := &engine{log: log, idm: idm, tr: tr, ids: map[string]*identity.Identity{}, endpoints: map[string]endpoint{}, next: 1000, cidr: identity.IdentityScopeLocal + 1}
	reserved := identity.IdentityMap{}
	for _, r := range []identity.NumericIdentity{identity.ReservedIdentityHost, identity.ReservedIdentityWorld, identity.ReservedIdentityUnmanaged,
		identity.ReservedIdentityHealth, identity.ReservedIdentityInit, identity.ReservedIdentityRemoteNode, identity.ReservedIdentityKubeAPIServer, identity.ReservedIdentityIngress} {
		if i := identity.LookupReservedIdentity(r); i != nil {
			reserved[r] = i.LabelArray
			e.ids["entity:"+r.String()] = i
		}
	}
	e.repo = policy.NewPolicyRepository(log, reserved, &testcert.Fake{}, tr, idm, testpolicy.NewPolicyMetricsNoop())
	e.repo.UpdateIdentities(reserved, nil)
	return e
}

// identity is the one that Cilium would give to a peer; the same peer has the same.
func (e *engine) identity(p Peer) (*identity.Identity, error) {
	var key string
	var lbls labels.Labels
	var id identity.NumericIdentity
	switch {
	case p.Entity != "":
		if p.Entity == "world" || e.ids["entity:"+p.Entity] != nil {
			return e.ids["entity:"+p.Entity], nil
		}
		return nil, fmt.Errorf("unknown entity %q", p.Entity)
	case p.IP != "":
		a, err := netip.ParseAddr(p.IP)
		if err != nil {
			return nil, err
		}
		key = "ip:" + a.String()
		if i := e.ids[key]; i != nil {
			return i, nil
		}
		lbls = labels.GetCIDRLabels(netip.PrefixFrom(a, a.BitLen()))
		id = e.cidr
		e.cidr++
	default:
		if p.Namespace == "" {
			p.Namespace = "default"
		}
		m := map[string]string{
			"io.kubernetes.pod.namespace":                                p.Namespace,
			"io.cilium.k8s.policy.cluster":                               "default",
			"io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name": p.Namespace,
		}
		if p.ServiceAccount != "" {
			m["io.cilium.k8s.policy.serviceaccount"] = p.ServiceAccount
		}
		for k, v := range p.Labels {
			m[k] = v
		}
		for k, v := range p.NamespaceLabels {
			m["io.cilium.k8s.namespace.labels."+k] = v
		}
		ks := make([]string, 0, len(m))
		for k, v := range m {
			ks = append(ks, k+"="+v)
		}
		sort.Strings(ks)
		key = "pod:" + strings.Join(ks, ",")
		if i := e.ids[key]; i != nil {
			return i, nil
		}
		lbls = labels.Map2Labels(m, labels.LabelSourceK8s)
		id = e.next
		e.next++
	}
	i := identity.NewIdentity(id, lbls)
	e.ids[key] = i
	var wg sync.WaitGroup
	add := identity.IdentityMap{id: i.LabelArray}
	e.repo.GetSelectorCache().UpdateIdentities(add, nil, &wg)
	wg.Wait()
	e.repo.UpdateIdentities(add, nil)
	return i, nil
}
