import { execFileSync } from 'node:child_process'
import { availableParallelism, cpus, loadavg, release } from 'node:os'
import { join } from 'node:path'

/** What a reader must know to judge the figures, one line. */
export function describeConditions (loadBefore: number, withGo: string): string {
  const model = cpus()[0]?.model ?? 'unknown processor'
  const load = `load average ${loadBefore.toFixed(2)} before, ${currentLoad().toFixed(2)} after`
  return `${new Date().toISOString().slice(0, 16)}Z, ${availableParallelism()} cores (${model}), Node ${process.version}, ${withGo}, ` +
    `Linux ${release()}, ${load}, commit ${commit()}`
}

/** Of the last minute. */
export function currentLoad (): number { return loadavg()[0] as number }

function commit (): string {
  const git = (...words: string[]) => execFileSync('git', words, { cwd: join(import.meta.dirname, '../..'), encoding: 'utf8' }).trim()
  try {
    return git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain', 'src') === '' ? '' : ' with changes in src')
  } catch {
    return 'unknown'
  }
}
