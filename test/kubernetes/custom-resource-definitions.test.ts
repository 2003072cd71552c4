import t from 'tap'
import { specs } from '../../src/controller/lint/known-fields.ts'
import { lintManifests } from '../../src/controller/lint/lint-manifests.ts'
import { manifestOf } from '../../src/controller/lint/manifest.ts'
import { plurals, refused, taken } from './custom-resource-examples.ts'
import { customResourceDefinitions, type Schema } from './custom-resources.ts'

void t.test('the definitions of deploy/crds', async t => {
  const definitions = customResourceDefinitions()
  t.same(definitions.map(({ metadata }) => metadata.name), Object.values(plurals).map(plural => `${plural}.spire.spiffe.io`))
  for (const [index, kind] of Object.keys(plurals).entries()) {
    const schema = definitions[index]?.spec.versions[0]?.schema.openAPIV3Schema
    const { spec, status } = schema?.properties ?? {}
    t.same(Object.keys(spec?.properties ?? {}).toSorted(), specs[kind]?.toSorted(), `${kind} has the fields that lint knows`)
    t.same(spec === undefined ? [] : withoutMessage(spec), [], `${kind} says of each rule what it is`)
    t.ok(status?.properties?.['conditions'] && status.properties['observedGeneration'], `${kind} has conditions`)
  }
})

void t.test('lint of a file says what the API server would say', async t => {
  const broken = new Set(['unknown-field', 'value-malformed', 'template-malformed', 'template-leaves-trust-domain'])
  const faults = (resource: object) => lintManifests([manifestOf(resource)]).map(({ code }) => code).filter(code => broken.has(code))
  for (const [what, resource] of Object.entries(taken)) t.same(faults(resource), [], what)
  for (const [what, resource] of refused) t.not(faults(resource).length, 0, what)
})

function withoutMessage (schema: Schema): readonly string[] {
  return [
    ...(schema['x-kubernetes-validations'] ?? [])
      .filter(({ message = '' }) => message === '' || message.includes('\n')).map(({ rule }) => rule),
    ...Object.values(schema.properties ?? {}).flatMap(withoutMessage),
    ...schema.items === undefined ? [] : withoutMessage(schema.items)
  ]
}
