// Says what npm calls the kind of machine that a container builder calls by the argument's name: `amd64` is `x64`.
import { cpus } from './files.mjs';

const cpu = cpus[process.argv[2]];
if (cpu === undefined) {
  console.error(`image: no image for ${process.argv[2]}: one of ${Object.keys(cpus).join(', ')}`);
  process.exit(1);
}
console.log(cpu);
