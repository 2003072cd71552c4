import { readdirSync, readFileSync } from 'node:fs'

/** Of all threads of a process, dead ones included: user and system. Linux counts in ticks of 10 ms. */
export function cpuMsOf (pid: number): number { return ticksOf(fieldsOf(pid), 11, 12) * 10 }

/** Of all threads that a process has now, in microseconds: finer than `cpuMsOf`, for processes whose threads stay. */
export function cpuUsOfThreads (pid: number): number {
  const tasks = `/proc/${pid}/task`
  return readdirSync(tasks).reduce((sum, task) => sum + Number(readFileSync(`${tasks}/${task}/schedstat`, 'utf8').split(' ')[0]) / 1_000, 0)
}

/** Of a process and its children, those that have ended included. */
export function cpuMsOfFamily (pid: number): number {
  const living = readdirSync('/proc').filter(name => /^\d+$/.test(name)).map(name => fieldsOf(Number(name)))
  const children = living.filter(([, parent]) => Number(parent) === pid).reduce((sum, fields) => sum + ticksOf(fields, 11, 12), 0)
  return (children + ticksOf(fieldsOf(pid), 11, 12, 13, 14)) * 10
}

/** From the state on (proc_pid_stat(5), field 3); none of a process that is gone. */
function fieldsOf (pid: number): string[] {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The name before the last parenthesis may hold spaces.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return []
    throw error
  }
}

function ticksOf (fields: readonly string[], ...which: readonly number[]): number {
  return which.reduce((sum, index) => sum + Number(fields[index]), 0)
}

export function residentMibOf (pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return Number(kib) / 1024
}
