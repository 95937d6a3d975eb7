import { describe, expect, it } from '@jest/globals';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isMap, parseDocument, type YAMLMap } from 'yaml';
import * as rig from '../rig/rig.js';
import { CHART, render, runHelm, valueSets } from '../support/chart.js';

/* What the chart takes, and what it says of what it does not. */

interface Schema {
  readonly description?: string;
  readonly type?: string | readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: boolean | Schema;
}

const NAMED = ['--set', 'trustDomain=example.org'];

async function refusal(...set: readonly string[]): Promise<string> {
  return render(...NAMED, ...set.flatMap((one) => ['--set', one])).then(
    () => 'taken',
    (error: unknown) => (error as Error).message,
  );
}

(rig.isSkipped('kubernetes') ? describe.skip : describe)('the values of the chart', () => {
  it(
    'pass helm lint with and without them, strictly',
    async () => {
      const lint = ['lint', '--strict', '--kube-version', '1.37.0', CHART];
      expect(await runHelm(lint)).toMatchObject({ code: 0 });
      for (const file of (await valueSets()).values())
        expect(await runHelm([...lint, '--values', file])).toMatchObject({ code: 0 });
    },
    rig.rigTimeout,
  );

  it('must name the trust domain, unless somebody else makes it', async () => {
    await expect(render()).rejects.toThrow(/trustDomain is needed: .* --set trustDomain=example\.org/);
    expect(await render('--set', 'createTrustDomain=false')).not.toContain('kind: TrustDomain');
  });

  it.each([
    ['sever.replicas=1', "at '': additional properties 'sever' not allowed"],
    ['agent.kubletDir=/x', "at '/agent': additional properties 'kubletDir' not allowed"],
    ['agent.kubeletDir=var/lib', "at '/agent/kubeletDir': 'var/lib' does not match pattern"],
    ['agent.kubeletDir=/', "at '/agent/kubeletDir': '/' does not match pattern"],
    ['agent.stateDir=/run/a b', "at '/agent/stateDir': '/run/a b' does not match pattern"],
    ['server.replicas=many', "at '/server/replicas': got string, want integer"],
    ['server.replicas=0', "at '/server/replicas': minimum: got 0, want 1"],
    ['trustDomain=Example.org', "at '/trustDomain': 'Example.org' does not match pattern"],
    ['trustDomainSpec.name=other', "at '/trustDomainSpec'"],
    ['injector.failurePolicy=Maybe', "at '/injector/failurePolicy': value must be one of 'Ignore', 'Fail'"],
    ['image.digest=sha256:12', "at '/image/digest': 'sha256:12' does not match pattern"],
    ['meshes={istio,consul}', "at '/meshes/1': value must be one of 'istio'"],
    ['agent.updateStrategy.rollingUpdate.maxSurge=one', 'does not match pattern'],
    ['agent.namespace=signet-system', "agent.namespace is the release's own (signet-system)"],
    ['crds.upgrade=sometimes', "at '/crds/upgrade': value must be one of 'auto', 'always', 'never'"],
    ['agent.sharedSocket=true', "at '/agent/sharedSocket': got boolean, want object"],
  ])('are refused by the place and the reason: %s', async (set, message) => {
    expect(await refusal(set)).toContain(message);
  });

  it('are refused where an autoscaler would have nothing to go by', async () => {
    const set = ['server.autoscaling.enabled=true', 'server.autoscaling.targetCPUUtilization=0'];
    expect(await refusal(...set)).toContain('set targetCPUUtilization or targetSignaturesPerSecond');
  });

  it('are all described, in the file that people read and in the schema, and no others are', async () => {
    const schema = JSON.parse(await readFile(join(CHART, 'values.schema.json'), 'utf8')) as Schema;
    const undescribed: string[] = [];
    const walk = (path: string, { description, properties = {} }: Schema): void => {
      if (description === undefined || description === '') undescribed.push(path);
      for (const [key, property] of Object.entries(properties)) walk(`${path}.${key}`, property);
    };
    walk('', schema);
    expect(undescribed).toEqual([]);

    const { contents } = parseDocument(await readFile(join(CHART, 'values.yaml'), 'utf8'));
    const different: string[] = [];
    const compare = (path: string, map: YAMLMap, { properties = {} }: Schema): void => {
      const keys = map.items.map(({ key }) => String(key));
      for (const key of Object.keys(properties))
        if (!keys.includes(key) && `${path}.${key}` !== '.global')
          different.push(`${path}.${key} has no default`);
      for (const { key, value } of map.items) {
        const property = properties[String(key)];
        if (property === undefined) different.push(`${path}.${String(key)} is not in the schema`);
        else if (property.properties !== undefined && isMap(value))
          compare(`${path}.${String(key)}`, value, property);
      }
    };
    if (!isMap(contents)) throw new Error('values.yaml is no map');
    compare('', contents, schema);
    expect(different).toEqual([]);
  });
});
