import { readdirSync, readFileSync } from 'node:fs'
import { posix, join } from 'node:path'
import t from 'tap'

/** Folder of `src/` → folders it may import, as `docs/architecture.md` has it. */
type Rules = ReadonlyMap<string, ReadonlySet<string>>
/** Path from the repository's root, with `/` → source text. */
type Sources = ReadonlyMap<string, string>

const root = join(import.meta.dirname, '..')

void t.test('src/ obeys the arrows of docs/architecture.md', async t => {
  const rules = parseRules(readFileSync(join(root, 'docs/architecture.md'), 'utf8'))
  const sources = readSources()
  t.ok(rules.size >= 17, 'the table has all folders')
  t.ok(sources.size >= 20 && [...sources].some(([path, text]) => importsOf(path, text).length > 0), 'sources and imports are found')
  t.strictSame(violations(sources, rules), [])
  t.strictSame(cycles(new Map([...rules].filter(([, allowed]) => !allowed.has('all')))), [], 'the table itself has no cycle')
  t.strictSame(cycles(graphOf(sources)), [], 'no cycle between folders')
})

void t.test('the checker sees what it must see', async t => {
  const rules = parseRules([
    '| folder | what lives there | may import |', '|---|---|---|',
    '| `spiffe` | domain | – |', '| `x509` | certificates | `spiffe` |',
    '| `ca` | signing | `x509`, `spiffe` |', '| `cli` | commands | all |'
  ].join('\n'))
  const check = (path: string, text: string) => violations(new Map([[path, text]]), rules)

  t.strictSame(check('src/ca/sign.ts', "import { a } from '../x509/a.ts'\nimport { b } from './b.ts'\nimport t from 'tap'"), [], 'allowed')
  t.strictSame(check('src/cli/commands/run.ts', "import { a } from '../../ca/a.ts'"), [], 'cli may import all')
  t.strictSame(check('src/x509/a.ts', "// import { s } from '../ca/s.ts'\n/*\n * from '../ca/s.ts'\n */"), [], 'comments are no imports')

  const forbidden = ['src/x509/a.ts: x509 may not import ca (../ca/sign.ts)']
  t.strictSame(check('src/x509/a.ts', "import { sign } from '../ca/sign.ts'"), forbidden, 'an import')
  t.strictSame(check('src/x509/a.ts', "import type {\n  Sign\n} from '../ca/sign.ts'"), forbidden, 'a type over several lines')
  t.strictSame(check('src/x509/a.ts', "export { sign } from '../ca/sign.ts'"), forbidden, 'a re-export')
  t.strictSame(check('src/x509/a.ts', "export * from '../ca/sign.ts'"), forbidden, 'a re-export of everything')
  t.strictSame(check('src/x509/a.ts', "import '../ca/sign.ts'"), forbidden, 'a side effect')
  t.strictSame(check('src/x509/a.ts', "const s = await import('../ca/sign.ts')"), forbidden, 'a dynamic import')
  t.strictSame(check('src/x509/a.ts', "let s: import('../ca/sign.ts').Sign"), forbidden, 'an import type')
  t.strictSame(check('src/x509/deep/a.ts', "import { sign } from '../../ca/sign.ts'").length, 1, 'from a deeper folder')
  t.strictSame(check('src/cli/a.ts', "import { f } from '../../test/fakes/clock.ts'"),
    ['src/cli/a.ts: imports from outside src (../../test/fakes/clock.ts)'], 'an import from test/')
  t.strictSame(check('src/extra/a.ts', ''), ['src/extra/a.ts: folder extra has no row'], 'a folder without a row')

  const circle = new Map([['src/a/1.ts', "import '../b/1.ts'"], ['src/b/1.ts', "import '../c/1.ts'"], ['src/c/1.ts', "import '../a/1.ts'"]])
  t.strictSame(cycles(graphOf(circle)), ['a → b → c → a'], 'a cycle between folders')
})

/** The rows of the table whose header ends in `may import`. */
function parseRules (markdown: string): Rules {
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

function violations (sources: Sources, rules: Rules): string[] {
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
function importsOf (path: string, text: string): { specifier: string, target: string }[] {
  const code = text.replaceAll(/^\s*\/\/.*$/gm, '').replaceAll(/^\s*\/\*[^]*?\*\//gm, '')
  const forms = [/\b(?:import|export)\b[^'"`;()]*?\bfrom\s*['"]([^'"]+)['"]/g, /\bimport\s*\(?\s*['"`]([^'"`]+)['"`]/g]
  return forms.flatMap(form => [...code.matchAll(form)].map(match => match[1]!))
    .filter(specifier => specifier.startsWith('.'))
    .map(specifier => ({ specifier, target: posix.normalize(posix.join(posix.dirname(path), specifier)) }))
}

function graphOf (sources: Sources): Map<string, Set<string>> {
  const graph = new Map<string, Set<string>>()
  for (const [path, text] of sources) {
    const targets = graph.get(folderOf(path)) ?? new Set()
    for (const { target } of importsOf(path, text)) if (folderOf(target) !== folderOf(path)) targets.add(folderOf(target))
    graph.set(folderOf(path), targets)
  }
  return graph
}

/** Each cycle once, as `a → b → a`. */
function cycles (graph: ReadonlyMap<string, ReadonlySet<string>>): string[] {
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

function readSources (): Sources {
  const files = readdirSync(join(root, 'src'), { recursive: true, withFileTypes: true })
    .filter(file => file.isFile() && /\.[cm]?[jt]s$/.test(file.name))
    .map(file => posix.join('src', join(file.parentPath, file.name).slice(join(root, 'src').length).replaceAll('\\', '/')))
  return new Map(files.toSorted().map(path => [path, readFileSync(join(root, path), 'utf8')]))
}
