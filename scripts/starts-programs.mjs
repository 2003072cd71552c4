import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

const known = new Map()

/** Whether a file of tests, or what it imports from `test/`, starts processes: Envoys, databases, servers, agents. @param file absolute */
export function startsPrograms (file) {
  const before = known.get(file)
  if (before !== undefined) return before
  // Two that import each other end here.
  known.set(file, false)
  const text = existsSync(file) ? readFileSync(file, 'utf8') : ''
  const imported = [...text.matchAll(/from '(\.{1,2}\/[^']+)'/g)].map(([, path]) => join(dirname(file), path))
  const starts = text.includes('from \'node:child_process\'') || imported.some(path => path.includes('/test/') && startsPrograms(path))
  known.set(file, starts)
  return starts
}
