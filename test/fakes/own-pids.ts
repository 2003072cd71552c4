import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import type { Test } from 'tap'

/** Whoever writes a number here is given the next one; with root's rights in the namespace alone. */
const lastPid = '/proc/sys/kernel/ns_last_pid'

const namespace = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc']
const ofAnyUser = ['unshare', '--user', '--map-root-user', ...namespace.slice(1)]

/** Why PIDs cannot be chosen; `false`: they can. */
export function noChosenPids (): string | false {
  return wayToChoosePids() === undefined && `cannot choose PIDs: ${lastPid} is not writable, nor is that of a namespace of our own`
}

/** Runs a scenario that chooses PIDs, a program for Node. @returns how it ended, as of `close`, and all that it printed */
export async function runChoosingPids (t: Test, ...command: readonly string[]): Promise<{ end: unknown, output: string }> {
  const [program = '', ...words] = [...wayToChoosePids() ?? [], process.execPath, ...command]
  const scenario = spawn(program, words, { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, NODE_NO_WARNINGS: '1' } })
  const end = once(scenario, 'close')
  t.teardown(() => scenario.kill('SIGKILL'))
  let output = ''
  scenario.stdout.setEncoding('utf8').on('data', text => { output += text })
  return { end: await end, output }
}

/** For a scenario: starts something again and again until it has this PID. */
export async function startWithPid<T extends AsyncDisposable & { readonly pid: number }> (
  pid: number, start: () => Promise<T>
): Promise<T> {
  for (let attempt = 0; attempt < 200; attempt++) {
    writeFileSync(lastPid, String(pid - 1))
    const started = await start()
    if (started.pid === pid) return started
    await started[Symbol.asyncDispose]()
  }
  throw new Error(`PID ${pid} could not be had in 200 attempts`)
}

/**
 * What to put before a command so that it can choose PIDs; `undefined` if there is no way. A namespace of its own, if one can be had: on
 * the machine the number may be given to somebody else first, who keeps it. Nothing, where only the machine's can be chosen.
 */
function wayToChoosePids (): readonly string[] | undefined {
  const own = [namespace, ofAnyUser].find(([program = '', ...words]) =>
    spawnSync(program, [...words, 'sh', '-c', `echo 1000 > ${lastPid}`], { stdio: 'ignore' }).status === 0)
  return own ?? (mayChooseHere() ? [] : undefined)
}

function mayChooseHere (): boolean {
  try {
    writeFileSync(lastPid, '1000')
    return true
  } catch {
    return false
  }
}
