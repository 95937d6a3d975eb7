// What a distroless base brings, for an image that is made without one: users, the C library and what Node links against.
import { Buffer } from 'node:buffer';
import { spawnSync } from 'node:child_process';
import { realpathSync } from 'node:fs';

/** Users and folders that programs expect. */
export function baseEntries() {
  const text = (path, content) => ({ path, mode: 0o644, content: Buffer.from(content) });
  return [
    text(
      'etc/passwd',
      'root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n' +
        'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n',
    ),
    text('etc/group', 'root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n'),
    text('etc/nsswitch.conf', 'hosts: files dns\n'),
    { path: 'home/nonroot', mode: 0o755 },
    { path: 'tmp', mode: 0o1777 },
    { path: 'run', mode: 0o755 },
    { path: 'var/run', mode: 0o777, target: '/run' },
  ];
}

/** The shared libraries of programs, and the loader, at the paths where this machine has them. */
export function libraryEntries(programs) {
  const found = new Map();
  for (const program of programs) {
    const { stdout: said, stderr, status } = spawnSync('ldd', [program], { encoding: 'utf8' });
    // A static program needs none, and ldd calls that a failure.
    if (status !== 0 && !/not a dynamic executable/.test(said + stderr))
      throw new Error(`ldd ${program}: ${stderr}`);
    for (const [path] of said.matchAll(/\/\S+\.so\S*/g)) {
      if (path !== program) found.set(path, { path: path.slice(1), mode: 0o755, source: realpathSync(path) });
    }
  }
  return [...found.values()];
}
