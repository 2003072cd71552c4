import { parseYaml } from '../../src/runtime/yaml-text.ts'

/** The documents of a text that must be YAML. @param name for messages */
export function yamlObjects (name: string, text: string): ReadonlyArray<Readonly<Record<string, unknown>>> {
  const documents = parseYaml(name, text)
  if ('problems' in documents) throw new Error(`${name} is no YAML: ${JSON.stringify(documents.problems)}`)
  return documents.map(({ raw }) => raw as Record<string, unknown>)
}
