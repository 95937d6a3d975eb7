import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { findPodCgroups, placeOf, type PodCgroups } from './cgroup.js';

const OWN = '0a1b2c3d-0000-4000-8000-00000000000a';
const AT_ROOT: PodCgroups = { kind: 'below', roots: [[]] };

const hex = (length: number): fc.Arbitrary<string> =>
  fc.stringMatching(new RegExp(`^[0-9a-f]{${length}}$`), { size: 'max' });
const apiUid = fc.uuid();
const uid = fc.oneof({ weight: 5, arbitrary: apiUid }, { weight: 1, arbitrary: hex(32) });
const container = hex(64);
const qos = fc.constantFrom('', 'burstable', 'besteffort');
/** A cgroup's name that means nothing. */
const plain = fc
  .stringMatching(/^[a-z][a-z0-9.:_-]{0,11}$/)
  .filter((name) => !/pod|kube|burst|effort/.test(name));

interface Kubelet {
  readonly driver: 'cgroupfs' | 'systemd';
  /** Its `cgroupRoot`, and what the node is in. */
  readonly root: readonly string[];
  readonly runtime: string;
}
const kubelet: fc.Arbitrary<Kubelet> = fc.record({
  driver: fc.constantFrom('cgroupfs', 'systemd'),
  root: fc.array(plain, { maxLength: 2 }),
  runtime: fc.constantFrom('cri-containerd', 'crio', 'docker'),
});

interface Pod {
  readonly uid: string;
  readonly qos: string;
  readonly container: string;
}
const pod: fc.Arbitrary<Pod> = fc.record({ uid, qos, container });

/** Below the kubelet's root. */
function podParts(
  { driver, runtime, root }: Kubelet,
  { uid: id, qos: level, container: inside }: Pod,
): string[] {
  if (driver === 'cgroupfs') return ['kubepods', ...(level === '' ? [] : [level]), `pod${id}`, inside];
  // systemd's slices carry the names of those that they are in.
  const prefix = root.length > 0 && root.at(-1) === 'kubelet.slice' ? 'kubelet-kubepods' : 'kubepods';
  const withLevel = level === '' ? prefix : `${prefix}-${level}`;
  return [
    `${prefix}.slice`,
    ...(level === '' ? [] : [`${withLevel}.slice`]),
    `${withLevel}-pod${id.replaceAll('-', '_')}.slice`,
    `${runtime}-${inside}.scope`,
  ];
}
const path = (...parts: readonly string[]): string => `/${parts.join('/')}`;
const v2 = (at: string): string => `0::${at}\n`;
const v1 = (at: string): string =>
  ['12:pids:', '11:memory:', '4:cpu,cpuacct:', '1:name=systemd:'].map((line) => `${line}${at}\n`).join('');
const hybrid = (at: string): string => `${v1(at)}0::/system.slice/containerd.service\n`;
const layout = fc.constantFrom(v2, v1, hybrid);

/** What the agent of the kubelet's node finds. */
function podsOf(one: Kubelet, write: (at: string) => string): PodCgroups {
  const own = podParts(one, { uid: OWN, qos: 'burstable', container: 'f'.repeat(64) });
  return findPodCgroups(write(path(...one.root, ...own)), OWN, false);
}

describe('the pod of a process', () => {
  it('is told by the cgroups that the kubelet makes, whatever its driver, its root and the version of cgroups', () => {
    fc.assert(
      fc.property(kubelet, pod, layout, (one, its, write) => {
        expect(placeOf(write(path(...one.root, ...podParts(one, its))), podsOf(one, write))).toEqual({
          ...{ kind: 'pod', uid: its.uid, container: its.container },
        });
      }),
    );
  });

  it('is the outermost: what a container makes below its own cgroup is still its own', () => {
    const below = fc.tuple(fc.array(plain, { maxLength: 2 }), kubelet, pod);
    fc.assert(
      fc.property(kubelet, pod, layout, fc.array(below, { maxLength: 3 }), (one, its, write, forged) => {
        const inner = forged.flatMap(([more, other, victim]) => [...more, ...podParts(other, victim)]);
        const place = placeOf(write(path(...one.root, ...podParts(one, its), ...inner)), podsOf(one, write));
        expect(place).toEqual({ kind: 'pod', uid: its.uid, container: its.container });
      }),
    );
  });

  it('is none for a user of the machine, who may name the cgroups of his session as he likes', () => {
    const session = fc.constantFrom(
      ['user.slice', 'user-1000.slice', 'user@1000.service'],
      ['system.slice', 'cron.service'],
      ['init.scope'],
    );
    fc.assert(
      fc.property(kubelet, session, pod, layout, fc.boolean(), (one, of, victim, write, hasContainer) => {
        const forged = podParts({ ...one, root: [] }, victim).slice(0, hasContainer ? undefined : -1);
        const place = placeOf(write(path(...of, ...forged)), podsOf(one, write));
        expect(place.kind).toBe(hasContainer ? 'unclear' : 'none');
      }),
    );
  });

  it('is told through a cgroup namespace of the agent’s own, which shows others from where it is itself', () => {
    fc.assert(
      fc.property(kubelet, pod, fc.constantFrom(v2, v1), qos, (one, its, write, ownQos) => {
        const hidden = findPodCgroups(write('/'), OWN, true);
        expect(hidden).toEqual({ kind: 'hidden' });
        const own = [...one.root, ...podParts(one, { uid: OWN, qos: ownQos, container: 'f'.repeat(64) })];
        const other = [...one.root, ...podParts(one, its)];
        const shared = own.findIndex((part, at) => part !== other[at]);
        const seen = path(...own.slice(shared).map(() => '..'), ...other.slice(shared));
        expect(placeOf(write(seen), hidden)).toEqual({ kind: 'pod', uid: its.uid, container: its.container });
      }),
    );
  });

  it.each([
    '/',
    '/..',
    '/../..',
    '/../0123',
    '/../../../../user.slice/kubepods/burstable',
    '/system.slice/a.service',
  ])('is not told from there for whoever is outside, or in the agent’s own container: %s', (seen) => {
    expect(placeOf(v2(seen), { kind: 'hidden' }).kind).toBe('unclear');
  });

  it('is not told for a path that leads up from the agent to where the kubelet makes no cgroups', () => {
    fc.assert(
      fc.property(kubelet, pod, fc.nat(5), plain, (one, victim, ups, first) => {
        const seen = path(...Array.from({ length: ups + 1 }, () => '..'), first, ...podParts(one, victim));
        expect(placeOf(v2(seen), { kind: 'hidden' }).kind).toBe('unclear');
        expect(placeOf(v2(seen), podsOf(one, v2)).kind).toBe('unclear');
      }),
    );
  });
});

describe('a process of the machine', () => {
  it('is only what is in no container at all: what a runtime keeps elsewhere is neither', () => {
    const runtime = fc.constantFrom(
      (id: string) => ['docker', id],
      (id: string) => ['system.slice', `docker-${id}.scope`],
      (id: string) => ['machine.slice', `libpod-${id}.scope`, 'container'],
      (id: string) => ['user.slice', 'user-1000.slice', `libpod-${id}.scope`],
      (id: string) => ['k8s.io', id, 'inner'],
      (id: string) => ['system.slice', 'containerd.service', `a:cri-containerd:${id}`],
    );
    fc.assert(
      fc.property(kubelet, runtime, container, layout, (one, parts, id, write) => {
        expect(placeOf(write(path(...parts(id))), podsOf(one, write)).kind).toBe('unclear');
      }),
    );
  });

  it('is told beside pods of a node that is in a container itself', () => {
    const outer = ['kubepods', 'burstable', 'pod11111111-2222-4333-8444-555555555555', 'e'.repeat(64)];
    const one: Kubelet = { driver: 'cgroupfs', root: [...outer, 'rig0'], runtime: 'crio' };
    const its = { uid: '99999999-2222-4333-8444-555555555555', qos: '', container: 'd'.repeat(64) };
    const pods = podsOf(one, v2);
    expect(placeOf(v2(path(...one.root, ...podParts(one, its))), pods)).toMatchObject({ uid: its.uid });
    expect(placeOf(v2(path(...outer, 'system.slice')), pods)).toEqual({ kind: 'none' });
    expect(placeOf(v2(path(...outer, 'docker', 'a'.repeat(64))), pods).kind).toBe('unclear');
    expect(placeOf(v2(path('docker', 'a'.repeat(64))), pods).kind).toBe('unclear');
  });

  it('is not what is among the pods’ cgroups, or in those of a pod that is going, without one being told', () => {
    for (const at of ['/kubepods', '/kubepods/burstable', '/kubepods/podx/y', '/kubepods.slice/a.service'])
      expect(placeOf(v2(at), AT_ROOT).kind).toBe('unclear');
    const gone = `/kubepods/pod${OWN}/${'a'.repeat(64)} (deleted)`;
    expect(placeOf(v2(gone), AT_ROOT)).toEqual({ kind: 'pod', uid: OWN });
  });

  it('is not what several pods claim, or what the kernel says nothing of', () => {
    const [one, other] = ['1', '2'].map(
      (digit) => `/kubepods/pod${digit.repeat(8)}-0000-4000-8000-000000000000/x`,
    );
    expect(placeOf(`4:cpu:${one ?? ''}\n3:pids:${other ?? ''}\n`, AT_ROOT).kind).toBe('unclear');
    for (const text of ['', '\n', 'nonsense', '0::relative\n'])
      expect(placeOf(text, AT_ROOT).kind).toBe('unclear');
  });

  it('never comes of a path below the kubelet’s root, whatever it is called', () => {
    const name = fc.oneof(plain, fc.stringMatching(/^[ -.0-~]{1,20}$/));
    fc.assert(
      fc.property(kubelet, fc.array(name, { maxLength: 4 }), layout, (one, parts, write) => {
        const kubepods = one.driver === 'systemd' ? 'kubepods.slice' : 'kubepods';
        const place = placeOf(write(path(...one.root, kubepods, ...parts)), podsOf(one, write));
        expect(place.kind).not.toBe('none');
      }),
    );
  });
});
