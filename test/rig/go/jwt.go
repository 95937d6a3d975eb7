package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func (t target) jwtSource(ctx context.Context) (*workloadapi.JWTSource, error) {
	return workloadapi.NewJWTSource(ctx, workloadapi.WithClientOptions(t.options()...))
}

func describeJWT(s *jwtsvid.SVID) object {
	return object{
		"id": s.ID.String(), "hint": s.Hint, "audience": s.Audience,
		"expiry": s.Expiry.UnixMilli(), "claims": s.Claims, "token": s.Marshal(),
	}
}

func jwtFetch(ctx context.Context, args []string) error {
	t := newTarget("jwt fetch")
	audience := t.set.String("audience", "", "comma separated")
	subject := t.set.String("id", "", "the SPIFFE ID to ask for; unset: all")
	t.parse(args)
	ctx, cancel := t.within(ctx)
	defer cancel()
	source, err := t.jwtSource(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	names := strings.Split(*audience, ",")
	params := jwtsvid.Params{Audience: names[0], ExtraAudiences: names[1:]}
	if *subject != "" {
		if params.Subject, err = spiffeid.FromString(*subject); err != nil {
			return err
		}
	}
	svids, err := source.FetchJWTSVIDs(ctx, params)
	if err != nil {
		return err
	}
	out := []object{}
	for _, s := range svids {
		o := describeJWT(s)
		if _, err := jwtsvid.ParseAndValidate(s.Marshal(), source, names[:1]); err != nil {
			o["verified"], o["verifyError"] = false, err.Error()
		} else {
			o["verified"] = true
		}
		out = append(out, o)
	}
	emit(object{"svids": out})
	return nil
}

func jwtValidate(ctx context.Context, args []string) error {
	t := newTarget("jwt validate")
	audience := t.set.String("audience", "", "the audience to check for")
	token := t.set.String("token", "", "a JWT-SVID")
	t.parse(args)
	ctx, cancel := t.within(ctx)
	defer cancel()
	client, err := t.client(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	source, err := t.jwtSource(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	remote, remoteErr := client.ValidateJWTSVID(ctx, *token, *audience)
	local, localErr := jwtsvid.ParseAndValidate(*token, source, []string{*audience})
	if remoteErr != nil || localErr != nil {
		emit(object{"valid": false, "remoteError": text(remoteErr), "localError": text(localErr)})
		return nil
	}
	if remote.ID != local.ID {
		return errors.New("the Workload API says " + remote.ID.String() + ", the token says " + local.ID.String())
	}
	emit(object{"valid": true, "svid": describeJWT(remote)})
	return nil
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

type bundlePrinter struct{}

func (bundlePrinter) OnJWTBundlesWatchError(err error) { emit(object{"watchError": failure(err)}) }
func (bundlePrinter) OnJWTBundlesUpdate(set *jwtbundle.Set) {
	o := object{}
	for _, b := range set.Bundles() {
		ids := []string{}
		for id := range b.JWTAuthorities() {
			ids = append(ids, id)
		}
		o[b.TrustDomain().Name()] = ids
	}
	emit(object{"bundles": o})
}

func jwtWatchBundles(ctx context.Context, args []string) error {
	t := newTarget("jwt watch-bundles")
	t.parse(args)
	return workloadapi.WatchJWTBundles(ctx, bundlePrinter{}, t.options()...)
}
