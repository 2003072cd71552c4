// Compares the imports under src/ with the table of docs/architecture.md; exits 1, naming each arrow that is not in it.
import { readdirSync, readFileSync } from 'node:fs'
import { posix, join } from 'node:path'

/** Folder of `src/` → folders it may import, as `docs/architecture.md` has it. */
export type Rules = ReadonlyMap<string, ReadonlySet<string>>
/** Path from the repository's root, with `/` → source text. */
export type Sources = ReadonlyMap<string, string>

const root = join(import.meta.dirname, '..')

if (import.meta.main) {
  const wrong = checkArrows(readRules(), readSources())
  for (const line of wrong) console.error(line)
  process.exitCode = wrong.length === 0 ? 0 : 1
}

export function readRules (): Rules {
  return parseRules(readFileSync(join(root, 'docs/architecture.md'), 'utf8'))
}

/** One line for each arrow that the rules do not have, and for each cycle in the rules or between folders. */
export function checkArrows (rules: Rules, sources: Sources): string[] {
  const limited = new Map([...rules].filter(([, allowed]) => !allowed.has('all')))
  const circles = [...cycles(limited).map(cycle => `the table: ${cycle}`), ...cycles(graphOf(sources)).map(cycle => `src: ${cycle}`)]
  return [...violations(sources, rules), ...circles]
}

/** The rows of the table whose header ends in `may import`. */
export function parseRules (markdown: string): Rules {
  const lines = markdown.split('\n')
  const start = lines.findIndex(line => /^\| folder \|.*\| may import \|$/.test(line))
  if (start < 0) throw new Error('no table with a column "may import"')
  const end = lines.findIndex((line, index) => index > start && !line.startsWith('|'))
  return new Map(lines.slice(start + 2, end < 0 ? undefined : end).map(line => {
    const [folder, , imports] = line.split('|').slice(1).map(cell => cell.trim())
    const names = [...imports!.matchAll(/`([a-z0-9]+)`/g)].map(match => match[1]!)
    return [folder!.replaceAll('`', ''), new Set(imports === 'all' ? ['all'] : names)]
  }))
}

export function violations (sources: Sources, rules: Rules): string[] {
  return [...sources].flatMap(([path, text]) => {
    const folder = folderOf(path)
    const allowed = rules.get(folder)
    if (allowed === undefined) return [`${path}: folder ${folder} has no row`]
    return importsOf(path, text).flatMap(({ specifier, target }) => {
      if (!target.startsWith('src/')) return [`${path}: imports from outside src (${specifier})`]
      const other = folderOf(target)
      const isAllowed = other === folder || allowed.has('all') || allowed.has(other)
      return isAllowed ? [] : [`${path}: ${folder} may not import ${other} (${specifier})`]
    })
  })
}

/** Relative imports only, each with the path it means; packages and `node:` modules are nobody's arrow. */
export function importsOf (path: string, text: string): { specifier: string, target: string }[] {
  const code = text.replaceAll(/^\s*\/\/.*$/gm, '').replaceAll(/^\s*\/\*[^]*?\*\//gm, '')
  const forms = [/\b(?:import|export)\b[^'"`;()]*?\bfrom\s*['"]([^'"]+)['"]/g, /\bimport\s*\(?\s*['"`]([^'"`]+)['"`]/g]
  return forms.flatMap(form => [...code.matchAll(form)].map(match => match[1]!))
    .filter(specifier => specifier.startsWith('.'))
    .map(specifier => ({ specifier, target: posix.normalize(posix.join(posix.dirname(path), specifier)) }))
}

export function graphOf (sources: Sources): Map<string, Set<string>> {
  const graph = new Map<string, Set<string>>()
  for (const [path, text] of sources) {
    const targets = graph.get(folderOf(path)) ?? new Set()
    for (const { target } of importsOf(path, text)) if (folderOf(target) !== folderOf(path)) targets.add(folderOf(target))
    graph.set(folderOf(path), targets)
  }
  return graph
}

/** Each cycle once, as `a → b → a`. */
export function cycles (graph: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const found: string[] = []
  const done = new Set<string>()
  const visit = (folder: string, way: readonly string[]): void => {
    const seen = way.indexOf(folder)
    if (seen >= 0) found.push([...way.slice(seen), folder].join(' → '))
    if (seen >= 0 || done.has(folder)) return
    for (const next of graph.get(folder) ?? []) visit(next, [...way, folder])
    done.add(folder)
  }
  for (const folder of graph.keys()) visit(folder, [])
  return found
}

function folderOf (path: string): string {
  return path.split('/')[1]!
}

export function readSources (): Sources {
  const files = readdirSync(join(root, 'src'), { recursive: true, withFileTypes: true })
    .filter(file => file.isFile() && /\.[cm]?[jt]s$/.test(file.name))
    .map(file => posix.join('src', join(file.parentPath, file.name).slice(join(root, 'src').length).replaceAll('\\', '/')))
  return new Map(files.toSorted().map(path => [path, readFileSync(join(root, path), 'utf8')]))
}
