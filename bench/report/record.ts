import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const file = join(import.meta.dirname, '../RESULTS.md')

/** Puts a run between the markers of its suite in `bench/RESULTS.md`; what people wrote around them stays. */
export function recordRun (suite: string, text: string): void {
  const before = existsSync(file) ? readFileSync(file, 'utf8') : '# Results\n'
  writeFileSync(file, replaceRun(before, suite, text))
}

export function replaceRun (document: string, suite: string, text: string): string {
  const [begin, end] = [`<!-- begin ${suite} -->`, `<!-- end ${suite} -->`]
  const run = `${begin}\n${text.trim()}\n${end}`
  const [from, to] = [document.indexOf(begin), document.indexOf(end)]
  if (from < 0 || to < from) return `${document.trimEnd()}\n\n## ${suite}\n\n${run}\n`
  return document.slice(0, from) + run + document.slice(to + end.length)
}
