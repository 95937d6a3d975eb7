import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** A program that answers each line of JSON on its stdin with one on its stdout, in order, and ends when stdin does. */
export interface LineProgram {
  /** Asks; an answer with `error` is thrown as an Error that says it. May be called again before the answer is there. */
  ask(question: unknown): Promise<unknown>;
  /** Ends its stdin, and waits until it has ended. */
  close(): Promise<void>;
}

/** Starts it; `env` is added to this process's environment. */
export function startLineProgram(
  file: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): LineProgram {
  const child = spawn(file, args, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
  const waiting: { resolve: (answer: unknown) => void; reject: (error: Error) => void }[] = [];
  let log = '';
  let ended: Error | undefined;
  child.stderr.on('data', (chunk: Buffer) => (log = (log + chunk.toString()).slice(-20_000)));
  child.stdin.on('error', () => undefined); // told by its end
  createInterface({ input: child.stdout, crlfDelay: Infinity }).on('line', (line) => {
    const next = waiting.shift();
    try {
      next?.resolve(JSON.parse(line));
    } catch {
      next?.reject(new Error(`${file} answered no JSON: ${line.slice(0, 400)}`));
    }
  });
  const end = new Promise<void>((resolve) => {
    const over = (how: string): void => {
      ended ??= new Error(`${file} ended (${how}): ${log.slice(-4000)}`);
      for (const { reject } of waiting.splice(0)) reject(ended);
      resolve();
    };
    child.on('error', (error) => over(error.message));
    child.on('close', (code, signal) => over(String(code ?? signal)));
  });
  return {
    async ask(question): Promise<unknown> {
      if (ended !== undefined) throw ended;
      const answer = await new Promise<unknown>((resolve, reject) => {
        waiting.push({ resolve, reject });
        child.stdin.write(`${JSON.stringify(question)}\n`);
      });
      if (typeof answer === 'object' && answer !== null && 'error' in answer) {
        throw new Error(String(answer.error));
      }
      return answer;
    },
    async close(): Promise<void> {
      child.stdin.end();
      await end;
    },
  };
}
