import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { yamlObjects } from './yaml-objects.ts'

/** The objects of a page's example that has these words in it: what it tells operators to apply is what a test applies. */
export function documentedObjects (page: string, words: string): ReadonlyArray<Readonly<Record<string, unknown>>> {
  const text = readFileSync(join(import.meta.dirname, '../../docs', page), 'utf8')
  const example = [...text.matchAll(/```yaml\n([^`]*)```/g)].map(([, yaml = '']) => yaml).find(yaml => yaml.includes(words))
  if (example === undefined) throw new Error(`docs/${page} has no example with ${words}`)
  return yamlObjects(`docs/${page}`, example)
}
