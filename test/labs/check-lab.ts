import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { NamedLab } from '../../labs/frame/find-labs.ts'
import { differencesOf } from '../../labs/frame/page.ts'
import { meetNeeds, runLab } from '../../labs/frame/run-lab.ts'

const root = join(import.meta.dirname, '../..')

/** Why it cannot run here, or `false`; fits tap's `skip`. */
export async function whyNot ({ lab }: NamedLab): Promise<string | false> {
  const met = await meetNeeds(lab, process.env)
  return 'reason' in met ? met.reason : false
}

/** Runs a lab: it holds what it claims, leaves nothing, and its page quotes what it printed. */
export async function checkLab (t: Test, { name, lab }: NamedLab): Promise<void> {
  let output = ''
  const { signal } = new AbortController()
  const outcome = await runLab(name, lab, { environment: process.env, signal, out: text => { output += text } })
  t.equal(outcome.code, 0, `${name} holds what it claims`)
  if (outcome.code !== 0) t.comment(output)
  t.match(output, /all [1-9]\d* checks hold/)
  t.ok(outcome.pids.length > 0)
  t.strictSame(outcome.pids.filter(isAlive), [], 'its processes have ended')
  t.notOk(existsSync(outcome.folder), 'its folder is gone')
  t.strictSame(differencesOf(readFileSync(join(root, `docs/labs/${name}.md`), 'utf8'), outcome.steps), [],
    `docs/labs/${name}.md quotes what it prints; if not: npm run lab -- ${name} --quote`)
}

export function isAlive (pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
