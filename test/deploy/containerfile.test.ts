import t from 'tap'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const root = join(import.meta.dirname, '../..')
const text = readFileSync(join(root, 'deploy/Containerfile'), 'utf8')

interface Instruction { readonly word: string, readonly rest: string }
interface Stage { readonly base: string, readonly name: string, readonly instructions: readonly Instruction[] }

function instructionsOf (text: string): Instruction[] {
  const lines = text.replaceAll(/^\s*#.*\n/gm, '').replaceAll(/\\\n/g, ' ').split('\n').filter(line => line.trim() !== '')
  return lines.map(line => {
    const [, word = '', rest = ''] = /^(\S+)\s+(.*)$/.exec(line) ?? []
    return { word, rest }
  })
}

/** Arguments before the first stage, and the stages. */
function read (text: string): { readonly args: ReadonlyMap<string, string>, readonly stages: readonly Stage[] } {
  const args = new Map<string, string>()
  const stages: { base: string, name: string, instructions: Instruction[] }[] = []
  for (const { word, rest } of instructionsOf(text)) {
    if (word === 'FROM') {
      const [base = '', , name = ''] = rest.split(/\s+/)
      stages.push({ base: base.replaceAll(/\$\{(\w+)\}/g, (_, arg: string) => args.get(arg) ?? ''), name, instructions: [] })
    } else if (stages.length === 0) {
      if (word === 'ARG') args.set(...rest.split('=') as [string, string])
    } else {
      stages.at(-1)?.instructions.push({ word, rest })
    }
  }
  return { args, stages }
}

const { stages } = read(text)
const images = ['assay', 'assay-node']

t.test('bases are pinned, and what is shipped is made of nothing', async t => {
  const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { devDependencies: Record<string, string> }
  const tested = `docker.io/library/node:${devDependencies['node']}-bookworm-slim`
  t.equal(stages.find(({ name }) => name === 'build')?.base, tested, 'the Node that is tested')
  for (const name of images) t.equal(stages.find(stage => stage.name === name)?.base, 'scratch', name)
  t.equal(stages.at(-1)?.name, 'assay', 'what is built where no target is named')
})

t.test('each image runs as nobody in particular, without a shell', async t => {
  for (const { instructions } of stages.filter(({ name }) => images.includes(name))) {
    t.strictSame(instructions.map(({ word }) => word), ['COPY', 'ENV', 'USER', 'ENTRYPOINT'], 'one layer, and no command of a shell')
    t.equal(instructions.find(({ word }) => word === 'USER')?.rest, '65532:65532')
    t.strictSame(JSON.parse(instructions.find(({ word }) => word === 'ENTRYPOINT')?.rest ?? ''), ['/usr/local/bin/assay'])
  }
})

t.test('what is copied is here, and let through by the list of what is ignored', async t => {
  const ignored = readFileSync(join(root, 'deploy/Containerfile.dockerignore'), 'utf8').trim().split('\n')
  t.equal(ignored[0], '*', 'nothing else gets near: no .git, no tests, no keys that lie about')
  const allowed = ignored.slice(1).map(line => line.replace(/^!/, ''))
  const copied = stages.flatMap(({ instructions }) => instructions).filter(({ word }) => word === 'COPY').map(({ rest }) => rest)
  const sources = copied.filter(rest => !rest.startsWith('--from=')).flatMap(rest => rest.split(/\s+/).slice(0, -1))
  t.ok(sources.length > 5)
  for (const source of sources) {
    t.ok(existsSync(join(root, source)), `${source} is here`)
    t.ok(allowed.some(path => source === path || source.startsWith(`${path}/`)), `${source} is let through`)
  }
  for (const path of allowed) t.ok(sources.some(source => source === path || path.startsWith(`${source}/`)), `${path} is needed`)
})

t.test('no secret is built in', async t => {
  const settings = stages.flatMap(({ instructions }) => instructions).filter(({ word }) => word === 'ENV' || word === 'ARG')
  for (const { rest } of settings) t.notMatch(rest, /token|secret|password|key/i)
  t.notMatch(text, /--mount=type=secret|ADD /, 'and nothing is fetched by the build file itself')
})
