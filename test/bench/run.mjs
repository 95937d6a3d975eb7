// Runs the benchmarks and prints one table: `npm run bench [name…]`. Each bench file exports `run()` and gives rows
// { name, value, unit, ratio?, target?, pass? }. A missed target is printed, never an exit status: this is a measurement.
import '../support/run-typescript.mjs';
import { readdirSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const wanted = process.argv.slice(2);
const files = readdirSync(here).filter((file) => file.endsWith('.bench.ts'));
const chosen = files.filter((file) => wanted.length === 0 || wanted.some((name) => file.startsWith(name)));
if (chosen.length === 0) {
  console.error(
    `bench: no such benchmark; there are ${files.map((file) => file.replace('.bench.ts', '')).join(', ')}`,
  );
  process.exit(2);
}

const number = (value) =>
  Number.isInteger(value) || Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
console.log(`Node ${process.versions.node}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown CPU'}\n`);
console.log('| measurement | value | target | met |');
console.log('| --- | --- | --- | --- |');
for (const file of chosen) {
  const { run } = await import(`./${file}`);
  for (const row of await run()) {
    const ratio = row.ratio === undefined ? '' : ` (${number(row.ratio)} ×)`;
    const met = row.pass === undefined ? '' : row.pass ? 'yes' : '**no**';
    console.log(`| ${row.name} | ${number(row.value)} ${row.unit}${ratio} | ${row.target ?? ''} | ${met} |`);
  }
}
