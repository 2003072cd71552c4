import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Lab } from './lab.ts'

export interface NamedLab { readonly name: string, readonly lab: Lab }

const folder = join(import.meta.dirname, '..')
/** In the order of the lessons; others come after them. */
const order = ['join', 'entries', 'attestation', 'high-availability', 'federation', 'nested', 'vault-login', 'hybrid']

/** Every `labs/NAME.ts` but the program itself. */
export async function findLabs (): Promise<NamedLab[]> {
  const names = (await readdir(folder)).flatMap(file => /^(?!main\.)([a-z0-9-]+)\.ts$/.exec(file)?.[1] ?? [])
  const place = (name: string) => (order.indexOf(name) + order.length + 1) % (order.length + 1)
  const labs = await Promise.all(names.map(async name => {
    const { lab } = await import(`../${name}.ts`) as { readonly lab?: Lab }
    if (lab === undefined) throw new Error(`labs/${name}.ts exports no lab`)
    return { name, lab }
  }))
  return labs.toSorted((a, b) => place(a.name) - place(b.name) || a.name.localeCompare(b.name))
}
