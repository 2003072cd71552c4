import t from 'tap'
import { existsSync, globSync, readFileSync, statSync } from 'node:fs'
import { join, posix } from 'node:path'

/** Path from the repository's root → text. */
type Pages = ReadonlyMap<string, string>

const root = join(import.meta.dirname, '..')

void t.test('every relative link leads somewhere, and every page is found from README', async t => {
  const paths = globSync(['*.md', '{docs,envoy-configs,compose,bench}/**/*.md'], { cwd: root })
  const pages: Pages = new Map(paths.toSorted().map(path => [path, readFileSync(join(root, path), 'utf8')]))
  t.ok(pages.has('README.md') && pages.has('docs/operations.md') && pages.has('docs/adr/README.md'), 'the pages are found')
  t.strictSame(brokenLinks(pages, path => existsSync(join(root, path))), [])
  t.strictSame(orphans(pages, path => statSync(join(root, path)).isDirectory()), [])
})

void t.test('the checker sees what it must see', async t => {
  const pages: Pages = new Map([
    ['README.md', '# Top\n[a](docs/a.md) [there](docs/a.md#the-way-of-data) [folder](docs/sub) [web](https://example.org/x.md) [me](#top)'],
    ['docs/a.md', [
      '# The way of *data*!', '[up](../README.md)', '`[code](nowhere.md)`', '```', '[code](nowhere.md)', '# no-heading', '```',
      '<a id="mark"></a>'
    ].join('\n')],
    ['docs/sub/README.md', '[mark](../a.md#mark)'],
    ['docs/lonely.md', '[x](gone.md) [y](a.md#absent) [z](#no-heading) [out](../../etc/passwd)']
  ])
  const exists = (path: string) => pages.has(path) || path === 'docs/sub'
  t.strictSame(brokenLinks(pages, exists), [
    'docs/lonely.md: gone.md', 'docs/lonely.md: a.md#absent', 'docs/lonely.md: #no-heading', 'docs/lonely.md: ../../etc/passwd'
  ])
  t.strictSame(orphans(pages, path => path === 'docs/sub'), ['docs/lonely.md'])
})

/** `page: link` for each link to a file or a heading that is not there. */
function brokenLinks (pages: Pages, exists: (path: string) => boolean): string[] {
  return [...pages].flatMap(([page, text]) => linksOf(page, text).filter(({ path, fragment }) => {
    if (path.startsWith('..') || !exists(path)) return true
    const target = pages.get(path)
    return fragment !== '' && target !== undefined && !anchorsOf(target).has(fragment)
  }).map(({ link }) => `${page}: ${link}`))
}

/** Pages that no chain of links from README reaches; a link to a folder shows its README. */
function orphans (pages: Pages, isFolder: (path: string) => boolean): string[] {
  const reached = new Set<string>()
  const visit = (page: string) => {
    const text = pages.get(page)
    if (text === undefined || reached.has(page)) return
    reached.add(page)
    for (const { path } of linksOf(page, text)) visit(pages.has(path) || !isFolder(path) ? path : posix.join(path, 'README.md'))
  }
  visit('README.md')
  return [...pages.keys()].filter(page => !reached.has(page))
}

function linksOf (page: string, text: string): { link: string, path: string, fragment: string }[] {
  return [...withoutCode(text).matchAll(/\]\(([^()\s]+)\)/g)]
    .map(([, link = '']) => link)
    .filter(link => !/^[a-z]+:/.test(link))
    .map(link => {
      const [path = '', fragment = ''] = link.split('#')
      return { link, path: path === '' ? page : posix.normalize(posix.join(posix.dirname(page), path)).replace(/\/$/, ''), fragment }
    })
}

/** Headings as GitHub names them, and marks set by hand. */
function anchorsOf (text: string): Set<string> {
  const headings = [...withoutBlocks(text).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading.toLowerCase().replaceAll(/[^\p{L}\p{N}\s_-]/gu, '').trim().replaceAll(' ', '-'))
  return new Set([...headings, ...[...text.matchAll(/<a id="([^"]+)">/g)].map(([, id = '']) => id)])
}

function withoutBlocks (text: string): string {
  return text.replaceAll(/^```[^]*?^```/gm, '')
}

function withoutCode (text: string): string {
  return withoutBlocks(text).replaceAll(/`[^`\n]*`/g, '')
}
