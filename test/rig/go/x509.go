package main

import (
	"context"
	"encoding/hex"
	"encoding/pem"
	"os"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// describeSVID also verifies the chain against the bundle it came with, as a peer would.
func describeSVID(svid *x509svid.SVID, bundles x509bundle.Source) object {
	leaf := svid.Certificates[0]
	o := object{
		"id":        svid.ID.String(),
		"hint":      svid.Hint,
		"serial":    hex.EncodeToString(leaf.SerialNumber.Bytes()),
		"notBefore": leaf.NotBefore.UnixMilli(),
		"notAfter":  leaf.NotAfter.UnixMilli(),
		"dnsNames":  leaf.DNSNames,
		"authority": hex.EncodeToString(leaf.AuthorityKeyId),
		"chain":     len(svid.Certificates),
		"pem":       chainPEM(svid),
		"verified":  true,
	}
	if _, _, err := x509svid.Verify(svid.Certificates, bundles); err != nil {
		o["verified"], o["verifyError"] = false, err.Error()
	}
	return o
}

func chainPEM(svid *x509svid.SVID) string {
	var out []byte
	for _, c := range svid.Certificates {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return string(out)
}

// describeBundles gives each trust domain's authorities as hex subject key IDs.
func describeBundles(set *x509bundle.Set) object {
	o := object{}
	for _, b := range set.Bundles() {
		ids := []string{}
		for _, a := range b.X509Authorities() {
			ids = append(ids, hex.EncodeToString(a.SubjectKeyId))
		}
		o[b.TrustDomain().Name()] = ids
	}
	return o
}

func bundlePEM(set *x509bundle.Set, td spiffeid.TrustDomain) string {
	b, ok := set.Get(td)
	if !ok {
		return ""
	}
	raw, err := b.Marshal()
	if err != nil {
		return ""
	}
	return string(raw)
}

func emitContext(c *workloadapi.X509Context) {
	svids := []object{}
	for _, s := range c.SVIDs {
		svids = append(svids, describeSVID(s, c.Bundles))
	}
	emit(object{
		"svids": svids, "bundles": describeBundles(c.Bundles),
		"bundlePem": bundlePEM(c.Bundles, c.DefaultSVID().ID.TrustDomain()),
	})
}

func x509Fetch(ctx context.Context, args []string) error {
	t := newTarget("x509 fetch")
	key := t.set.String("write-key", "", "also writes the default SVID's PKCS#8 key (PEM) to this new file")
	t.parse(args)
	ctx, cancel := t.within(ctx)
	defer cancel()
	c, err := workloadapi.FetchX509Context(ctx, t.options()...)
	if err != nil {
		return err
	}
	if *key != "" {
		_, raw, err := c.DefaultSVID().Marshal()
		if err != nil {
			return err
		}
		if err := os.WriteFile(*key, raw, 0o600); err != nil {
			return err
		}
	}
	emitContext(c)
	return nil
}

func x509Bundles(ctx context.Context, args []string) error {
	t := newTarget("x509 bundles")
	t.parse(args)
	ctx, cancel := t.within(ctx)
	defer cancel()
	set, err := workloadapi.FetchX509Bundles(ctx, t.options()...)
	if err != nil {
		return err
	}
	emit(object{"bundles": describeBundles(set)})
	return nil
}

type contextPrinter struct{}

func (contextPrinter) OnX509ContextUpdate(c *workloadapi.X509Context) { emitContext(c) }
func (contextPrinter) OnX509ContextWatchError(err error)              { emit(object{"watchError": failure(err)}) }

func x509Watch(ctx context.Context, args []string) error {
	t := newTarget("x509 watch")
	useSource := t.set.Bool("source", false, "through an X509Source")
	t.parse(args)
	if !*useSource {
		return workloadapi.WatchX509Context(ctx, contextPrinter{}, t.options()...)
	}
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(t.options()...))
	if err != nil {
		return err
	}
	defer source.Close()
	for {
		svid, err := source.GetX509SVID()
		if err != nil {
			return err
		}
		bundle, err := source.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
		if err != nil {
			return err
		}
		set := x509bundle.NewSet(bundle)
		emit(object{"svids": []object{describeSVID(svid, set)}, "bundles": describeBundles(set)})
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-source.Updated():
		}
	}
}
