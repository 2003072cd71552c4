/** Of one flag: whether a value follows it, and its default, as Go's package flag tells them. */
export interface FlagFact { readonly takesValue: boolean, readonly default?: string }
export type FlagFacts = Readonly<Record<string, FlagFact>>

/** Reads what a Go program prints for `-h`. */
export function readGoUsage (text: string): FlagFacts {
  const facts: Record<string, FlagFact> = {}
  for (const [, name = '', rest = '', help = ''] of text.matchAll(/^ {2}-(\S+)(.*)\n((?: {4}\t.*\n?)*)/gm)) {
    const [, value] = /\(default ("(?:[^"\\]|\\.)*"|[^)]*)\)/.exec(`${rest}${help}`) ?? []
    const [, said] = /; default: (\w+)\./.exec(help) ?? []
    const initial = value?.startsWith('"') === true ? JSON.parse(value) as string : value ?? said
    facts[name] = { takesValue: / \w/.test(rest.split('\t')[0] ?? ''), ...initial === undefined ? {} : { default: initial } }
  }
  return facts
}
