import { maskLine } from './mask.ts'

type Steps = ReadonlyMap<string, readonly string[]>

/** A part of a page: its heading and the one block of output in it, `undefined` where there is none. */
interface Section { readonly heading: string, readonly quoted: readonly string[] | undefined }

const block = /^```console\n([^]*?)^```$/m

/**
 * Compares a page with what its lab printed. Each step has a heading `## title` and below it one block `console` with all that was printed.
 * @returns one line for each difference; what changes from run to run is none
 */
export function differencesOf (page: string, steps: Steps): string[] {
  const sections = new Map(sectionsOf(page).map(({ heading, quoted }) => [heading, quoted]))
  const strangers = [...sections].filter(([heading, quoted]) => quoted !== undefined && !steps.has(heading))
  return [
    ...strangers.map(([heading]) => `${heading}: the page quotes output, and the lab has no such step`),
    ...[...steps].flatMap(([title, lines]) => {
      const quoted = sections.get(title)
      return quoted === undefined ? [`${title}: the page does not quote this step`] : differingLines(title, quoted, lines)
    })
  ]
}

/** @returns the page with what was printed in its blocks; steps that it did not have are at its end */
export function quoteInto (page: string, steps: Steps): string {
  const rest = new Map(steps)
  const parts = page.split(/^(?=## )/m).map(part => {
    const heading = headingOf(part)
    const lines = heading === undefined ? undefined : rest.get(heading)
    if (heading === undefined || lines === undefined) return part
    rest.delete(heading)
    return block.test(part) ? part.replace(block, () => blockOf(lines)) : `${part.trimEnd()}\n\n${blockOf(lines)}\n\n`
  })
  const added = [...rest].map(([title, lines]) => `\n## ${title}\n\n${blockOf(lines)}\n`)
  return `${parts.join('').trimEnd()}\n${added.join('')}`
}

function sectionsOf (page: string): Section[] {
  return page.split(/^(?=## )/m).flatMap(part => {
    const heading = headingOf(part)
    return heading === undefined ? [] : [{ heading, quoted: block.exec(part)?.[1]?.replace(/\n$/, '').split('\n') }]
  })
}

function headingOf (part: string): string | undefined { return /^## (.*)$/m.exec(part)?.[1] }

function blockOf (lines: readonly string[]): string { return `\`\`\`console\n${lines.join('\n')}\n\`\`\`` }

function differingLines (title: string, quoted: readonly string[], printed: readonly string[]): string[] {
  const length = Math.max(quoted.length, printed.length)
  for (let index = 0; index < length; index++) {
    const [ours, theirs] = [quoted[index], printed[index]].map(line => line === undefined ? '(nothing)' : maskLine(line))
    // What follows the first difference is moved by it.
    if (ours !== theirs) return [`${title}, line ${index + 1}: the page has "${ours}", the lab printed "${theirs}"`]
  }
  return []
}
