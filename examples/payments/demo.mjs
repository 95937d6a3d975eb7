// `npm run demo`: Signet does its job once, on this machine, with real certificates. Needs no cluster and no root.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { connect } from 'node:tls';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '..', '..');
const signet = join(root, 'bin', 'signet');
const PATIENCE_MS = 20_000;

const children = new Set();
const state = mkdtempSync(join(tmpdir(), 'signet-demo-'));
process.on('exit', () => {
  for (const { child } of children) child.kill('SIGKILL');
  rmSync(state, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(1));

const print = (text = '') => process.stdout.write(`${text}\n`);

class Disappointment extends Error {}

/** Says what was expected and came true, or ends the demo. */
function expect(holds, text, detail = '') {
  if (!holds) throw new Disappointment(`${text}${detail === '' ? '' : `\n  ${detail}`}`);
  print(`  ✓ ${text}`);
}

/** A program that tells what happens in lines of JSON. */
function start(name, command, args, environment = {}) {
  const child = spawn(command, args, {
    cwd: root,
    env: { ...process.env, ...environment },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const program = { name, child, events: [], errors: '', waiting: new Set(), ended: false };
  children.add(program);
  child.stdin.on('error', () => undefined);
  child.stderr.setEncoding('utf8').on('data', (text) => {
    program.errors = `${program.errors}${text}`.slice(-4000);
  });
  createInterface({ input: child.stdout }).on('line', (line) => {
    program.events.push(JSON.parse(line));
    for (const look of program.waiting) look();
  });
  child.once('close', () => {
    program.ended = true;
    children.delete(program);
    for (const look of program.waiting) look();
  });
  child.once('error', (error) => (program.errors += error.message));
  return program;
}

/** The first event that fits, now or later. */
async function event(program, what, fits) {
  const found = Promise.withResolvers();
  const look = () => {
    const hit = program.events.find(fits);
    if (hit !== undefined) found.resolve(hit);
    else if (program.ended) {
      found.reject(new Disappointment(`${program.name} ended before its ${what} came\n${program.errors}`));
    }
  };
  program.waiting.add(look);
  look();
  const late = sleep(PATIENCE_MS, undefined, { ref: false }).then(() =>
    found.reject(
      new Disappointment(`${program.name}: no ${what} within ${PATIENCE_MS / 1000} s\n${program.errors}`),
    ),
  );
  try {
    return await Promise.race([found.promise, late]);
  } finally {
    program.waiting.delete(look);
  }
}

const identity = (program, fits = () => true) =>
  event(program, 'identity', (each) => each.event === 'identity' && fits(each));

function run(...args) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [signet, ...args], {
    cwd: root,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Disappointment(`signet ${args.join(' ')} failed:\n${stderr}`);
  return JSON.parse(stdout);
}

/** A program of the internet: it knows the address and has no identity. Answers how it was refused. */
function stranger(port) {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false });
    socket.on('error', (error) => resolve(error.code));
    socket.on('data', () => resolve('answered'));
    socket.on('end', () => resolve('closed'));
    socket.write('GET /api/payments HTTP/1.1\r\nhost: payment-service\r\n\r\n');
  });
}

function showIdentity(name, { spiffeID, serial, expires, authority }) {
  const minutes = Math.round((Date.parse(expires) - Date.now()) / 60_000);
  print(`  ${name.padEnd(16)} ${spiffeID}`);
  print(`  ${''.padEnd(16)} serial ${serial}, expires ${expires} (in ${minutes} min)`);
  print(`  ${''.padEnd(16)} signed by authority ${authority}`);
}

async function showCall(program, method, path, allowed) {
  const call = await event(
    program,
    `answer to ${method} ${path}`,
    (each) => each.event === 'call' && each.method === method && each.path === path,
  );
  const verdict = allowed ? 'allowed' : 'denied ';
  expect(
    (call.status === 200) === allowed && call.protocol === 'TLSv1.3',
    `${program.name.padEnd(13)} ${method.padEnd(6)} ${path.padEnd(15)} ${verdict} over ${call.protocol}`,
    `answered ${call.status}: ${call.reason}`,
  );
  print(`      ${call.reason}`);
  return call;
}

async function main() {
  if (!existsSync(join(root, 'dist', 'workload', 'index.js'))) {
    print('Building dist/ first …');
    const { status } = spawnSync(process.execPath, [join(root, 'scripts', 'build.mjs')], {
      stdio: 'inherit',
    });
    if (status !== 0) throw new Disappointment('the build failed');
  }

  print('Signet: three services, one policy, and not one secret in a file.');
  print();
  const dev = start('signet dev', process.execPath, [
    signet,
    'dev',
    here,
    '--state',
    state,
    '--output',
    'json',
  ]);
  const { trustDomain, pods } = await event(dev, 'ready line', (each) => each.ready === true);

  print(`1. Each pod gets its identity in trust domain ${trustDomain}, over a socket of its own`);
  const program = (name, environment = {}) => {
    const pod = pods.find(({ serviceAccount }) => serviceAccount === name);
    if (pod === undefined) throw new Disappointment(`signet dev names no pod of ${name}`);
    return start(name, process.execPath, [join(here, 'programs', `${name}.mjs`)], {
      SPIFFE_ENDPOINT_SOCKET: `unix://${pod.socket}`,
      ...environment,
    });
  };
  const payment = program('payment-service', { POLICY_FILE: join(here, 'access.yaml') });
  const { port } = await event(payment, 'port', (each) => each.event === 'listening');
  const where = { PAYMENT_URL: `https://127.0.0.1:${port}` };
  const order = program('order-service', where);
  const admin = program('admin-service', where);
  const programs = [order, payment, admin];
  const before = new Map();
  for (const each of programs) {
    const svid = await identity(each);
    before.set(each, svid);
    showIdentity(each.name, svid);
    expect(
      svid.spiffeID === `spiffe://${trustDomain}/ns/payments/sa/${each.name}`,
      `${each.name} is who it should be`,
    );
  }

  print();
  print('2. They call payment-service over mutual TLS; its AccessPolicy decides on each call');
  const paid = await showCall(order, 'POST', '/api/payments', true);
  expect(paid.reason.includes('"orders-may-pay"'), 'the rule orders-may-pay has decided', paid.reason);
  const denied = await showCall(order, 'DELETE', '/api/payments/1', false);
  expect(denied.status === 403, 'the answer was 403, and names what was missing', denied.reason);
  for (const method of ['GET', 'POST']) await showCall(admin, method, '/api/payments', true);
  await showCall(admin, 'DELETE', '/api/payments/1', true);

  print();
  print('3. A stranger with no identity knocks');
  const refusal = await stranger(port);
  expect(
    refusal === 'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED',
    'refused in the handshake: TLS alert "certificate required"',
    `it got: ${refusal}`,
  );
  const seen = await event(payment, 'refusal', (each) => each.event === 'refused');
  print(`      payment-service says: ${seen.message}`);

  print();
  print('4. The authority is replaced while calls go on');
  const old = before.get(order).authority;
  for (const each of [order, admin]) each.child.stdin.write('go\n');
  for (const each of [order, admin])
    await event(each, 'call under load', ({ event: name }) => name === 'going');
  run('ca', 'rotate', '--kind', 'x509', '--state', state, '--output', 'json');
  const { authorities } = run('ca', 'show', '--state', state, '--output', 'json');
  const active = authorities.find(({ kind, slot }) => kind === 'X509' && slot === 'Active')?.id;
  print(`  old authority    ${old}`);
  print(`  new authority    ${active}`);
  expect(active !== undefined && active !== old, 'a new authority was made, published, and then put to use');
  // Not waiting until half of each life is over: what the old one signed is replaced at once.
  run('ca', 'taint', old, '--state', state, '--output', 'json');
  for (const each of programs) {
    const svid = await identity(each, ({ authority }) => authority === active);
    expect(svid.serial !== before.get(each).serial, `${each.name} goes on with serial ${svid.serial}`);
  }
  await sleep(300);
  let calls = 0;
  for (const each of [order, admin]) {
    each.child.stdin.write('stop\n');
    const { count, failed, failures } = await event(each, 'count', ({ event: name }) => name === 'counted');
    expect(failed === 0, `${each.name} made ${count} calls meanwhile, none failed`, failures.join('; '));
    calls += count;
  }
  expect(calls > 0, `${calls} calls in all, no connection lost to the rotation`);

  for (const { child, ended } of [...programs, dev]) if (!ended) child.kill('SIGTERM');
  for (const each of [...programs, dev]) if (!each.ended) await once(each.child, 'close');
  expect(dev.child.exitCode === 0, 'signet dev stopped cleanly', dev.errors);
  print();
  print(
    'Done. Read examples/payments/*.yaml for what was asked, and programs/ for how little the services had to do.',
  );
}

try {
  await main();
} catch (error) {
  process.stderr.write(
    `\nThe demo failed: ${error instanceof Disappointment ? error.message : error.stack}\n`,
  );
  process.exitCode = 1;
}
process.exit();
