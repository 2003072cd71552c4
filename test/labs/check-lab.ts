import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { findLabs } from '../../labs/frame/find-labs.ts'
import type { Lab } from '../../labs/frame/lab.ts'
import { differencesOf } from '../../labs/frame/page.ts'
import { meetNeeds, runLab } from '../../labs/frame/run-lab.ts'

const root = join(import.meta.dirname, '../..')
/** Of a busy machine. */
const timeouts = { test: 280_000, soak: 900_000 } as const

/** A test of one lab, skipped with the reason where it cannot run. */
export async function testLab (name: string): Promise<void> {
  const lab = (await findLabs()).find(lab => lab.name === name)?.lab
  if (lab === undefined) throw new Error(`there is no lab ${name}`)
  const met = await meetNeeds(lab, process.env)
  const options = { skip: 'reason' in met ? met.reason : false, timeout: timeouts[lab.proof] }
  await t.test(`the lab ${name} holds what it claims, and docs/labs/${name}.md quotes it`, options, t => checkLab(t, name, lab))
}

/** Runs it: it leaves nothing, and its page quotes what it printed. */
async function checkLab (t: Test, name: string, lab: Lab): Promise<void> {
  let output = ''
  const stop = new AbortController()
  // A lab whose test has run out of time cleans up all the same.
  t.teardown(() => { stop.abort(new Error('the test is over')) })
  const outcome = await runLab(name, lab, { environment: process.env, signal: stop.signal, out: text => { output += text } })
  t.equal(outcome.code, 0, output)
  t.match(output, /all [1-9]\d* checks hold/)
  t.ok(outcome.pids.length > 0)
  t.strictSame(outcome.pids.filter(isAlive), [], 'its processes have ended')
  if (outcome.code === 0) t.notOk(existsSync(outcome.folder), 'its folder is gone')
  t.strictSame(differencesOf(readFileSync(join(root, `docs/labs/${name}.md`), 'utf8'), outcome.steps), [],
    `what differs is to be looked at, then: npm run lab -- ${name} --quote`)
}

export function isAlive (pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
