import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { lastWords } from './last-words.ts'

const root = join(import.meta.dirname, '../..')

/** The shell blocks of a page of the documentation, each as it stands. */
export async function readBlocks (page: string): Promise<string[]> {
  return [...(await readFile(join(root, page), 'utf8')).matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(match => match[1] ?? '')
}

/** One shell runs all blocks, and stops at the first command that fails. Then it tells whether `$TRY` went away. */
export function scriptOf (blocks: readonly string[]): string {
  return `set -eu\n${blocks.join('\necho "== block done"\n')}\necho "left: $(ls -d $TRY 2>/dev/null || true)"\n`
}

/** A bash of its own process group at the repository's root, so that a failure on the way leaves none of its background jobs. */
export async function runBash (
  script: string, environment: Readonly<Record<string, string>> = {}
): Promise<{ code: number | null, output: string }> {
  const bash = spawn('bash', ['-c', script], {
    cwd: root, detached: true, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...environment }
  })
  let output = ''
  for (const stream of [bash.stdout, bash.stderr]) stream.setEncoding('utf8').on('data', text => { output += text })
  const closed = once(bash, 'close')
  const [code] = await once(bash, 'exit') as [number | null]
  try {
    process.kill(-(bash.pid as number), 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
  await lastWords(closed)
  return { code, output }
}
