import { changesAnything, planChanges, type ControllerPlan } from '../../controller/plan-changes.ts'
import { explainUnreachable } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { outputFlag } from '../socket-path.ts'
import { controllerConfigFlags, readControllerConfig } from './controller-config-flags.ts'
import { formatPlan } from './format-plan.ts'

export const controllerPlan = defineCommand({
  flags: { ...controllerConfigFlags, output: outputFlag },
  details: 'Reads cluster and server once and compares them as a leading controller does: what it prints is what would be done.\n' +
    'Exit code 0: nothing would change; 5: something would. What is left alone, and why, is printed too and changes no exit code.',
  examples: [
    'assay controller plan -config controller.yaml',
    'assay controller plan -config controller.yaml -kubeconfig ~/.kube/config --output json'
  ],
  async run ({ flags, terminal }) {
    const { config, socketPath } = await readControllerConfig(flags, terminal)
    const plan = await planChanges(config, socketPath, terminal.signal)
      .catch((error: unknown) => { throw explainUnreachable(error, 'server', socketPath) })
    terminal.out(flags.output === 'json' ? `${formatJson(jsonForm(plan))}\n` : formatPlan(plan))
    return changesAnything(plan) ? 5 : 0
  }
})

function jsonForm ({ entries, federation, declared, problems, masked, skipped }: ControllerPlan) {
  const by = (key: string) => {
    const resource = declared(key)[0]?.by
    return resource && { kind: resource.kind, name: resource.name }
  }
  return {
    entries: {
      create: entries.create.map(({ entry, key }) => ({ entry, by: by(key) })),
      update: entries.update.map(({ entry, key, before, fields }) => ({ entry, before, fields, by: by(key) })),
      delete: entries.remove.map(({ entry }) => entry),
      foreign: [...entries.foreign].map(([key, id]) => ({ id, spiffeId: declared(key)[0]?.entry.spiffeId, by: by(key) }))
    },
    federation: {
      create: federation.create.map(({ relationship, by: { name } }) => ({ ...relationship, by: name })),
      update: federation.update.map(({ relationship, by: { name } }) => ({ ...relationship, by: name })),
      delete: federation.remove,
      foreign: [...federation.foreign]
    },
    problems, masked, skipped: new Map(Object.entries(skipped))
  }
}
