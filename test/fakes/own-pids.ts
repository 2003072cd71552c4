import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'

/** Whoever writes a number here is given the next one; with root's rights in the namespace alone. */
export const lastPid = '/proc/sys/kernel/ns_last_pid'

const namespace = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc']
const ofAnyUser = ['unshare', '--user', '--map-root-user', ...namespace.slice(1)]

/**
 * What to put before a command so that it can choose PIDs; `undefined` if there is no way. A namespace of its own, if one can be had: on
 * the machine the number may be given to somebody else first, who keeps it. Nothing, where only the machine's can be chosen.
 */
export function wayToChoosePids (): readonly string[] | undefined {
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
