// Hands-on labs: each prints what it does, checks itself and takes everything away again.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openTerminal, type Terminal } from '../src/cli/terminal.ts'
import { findLabs, type NamedLab } from './frame/find-labs.ts'
import { anonymiseLine } from './frame/mask.ts'
import { quoteInto } from './frame/page.ts'
import { meetNeeds, runLab, type LabOutcome } from './frame/run-lab.ts'
import type { Stage } from './frame/stage.ts'

const help = `usage: npm run lab -- NAME... [--keep-logs] [--stay] [--quote]      without a name: lists the labs
  all          every lab, one after the other
  --keep-logs  leaves the logs behind; after a failure they stay anyway
  --stay       leaves everything up after the last step, until Ctrl-C
  --quote      puts what was printed into docs/labs/NAME.md
exit code: 0 all that was claimed holds; 1 something does not; 2 wrong usage; 77 skipped, and why; 130 stopped by a signal
`

process.exitCode = await main(openTerminal())

async function main (terminal: Terminal): Promise<number> {
  let parsed
  try {
    parsed = parseArgs({
      allowPositionals: true,
      options: {
        help: { type: 'boolean', short: 'h' }, 'keep-logs': { type: 'boolean' }, stay: { type: 'boolean' }, quote: { type: 'boolean' }
      }
    })
  } catch (error) {
    terminal.err(`${(error as Error).message}\n${help}`)
    return 2
  }
  const { values, positionals } = parsed
  const labs = await findLabs()
  if (values.help === true || positionals.length === 0) {
    terminal.out(`${help}\n${await list(labs, terminal)}`)
    return 0
  }
  const chosen = positionals.includes('all') ? labs : labs.filter(({ name }) => positionals.includes(name))
  const unknown = positionals.find(name => name !== 'all' && !labs.some(lab => lab.name === name))
  if (unknown !== undefined) {
    terminal.err(`there is no lab ${unknown}; there are: ${labs.map(({ name }) => name).join(', ')}\n`)
    return 2
  }
  return await runAll(chosen, terminal, values)
}

async function runAll (
  labs: readonly NamedLab[], { environment, signal, out }: Terminal,
  options: { readonly 'keep-logs'?: boolean, readonly stay?: boolean, readonly quote?: boolean }
): Promise<number> {
  const stay = async ({ folder }: Stage) => {
    out(`\neverything stays up in ${folder} until Ctrl-C\n`)
    if (!signal.aborted) await new Promise(resolve => signal.addEventListener('abort', resolve, { once: true }))
  }
  const codes = []
  try {
    for (const { name, lab } of labs) {
      const outcome = await runLab(name, lab, {
        environment, signal, out, keepLogs: options['keep-logs'] ?? false, ...options.stay === true ? { stay } : {}
      })
      codes.push(outcome.code)
      if (outcome.code === 0 && options.quote === true) await quote(name, lab.title, outcome)
    }
  } catch (error) {
    if (signal.aborted) return 130
    throw error
  }
  return codes.find(code => code === 1) ?? codes.find(code => code !== 0) ?? 0
}

async function list (labs: readonly NamedLab[], { environment }: Terminal): Promise<string> {
  const width = Math.max(...labs.map(({ name }) => name.length))
  const lines = await Promise.all(labs.map(async ({ name, lab }) => {
    const met = await meetNeeds(lab, environment)
    const needs = lab.needs.map(need => need.name).join(', ')
    const missing = 'reason' in met ? `; it would be skipped: ${met.reason}` : ''
    return `  ${name.padEnd(width)}  ${lab.title}\n  ${' '.repeat(width)}  needs ${needs}${missing}\n`
  }))
  return lines.join('')
}

async function quote (name: string, title: string, { steps, folder }: LabOutcome): Promise<void> {
  const file = join(import.meta.dirname, `../docs/labs/${name}.md`)
  const page = await readFile(file, 'utf8').catch(() => `# ${title}\n`)
  const anonymous = new Map([...steps].map(([title, lines]) => [title, lines.map(line => anonymiseLine(line, folder))]))
  await writeFile(file, quoteInto(page, anonymous))
}
