import type { CommandGroup } from '../command.ts'

export const controllerCommands: CommandGroup = {
  summary: 'Make entries for the pods of a Kubernetes cluster, as its resources say',
  commands: {
    run: {
      summary: 'Run the controller until SIGINT or SIGTERM',
      load: async () => (await import('./controller-run.ts')).controllerRun
    },
    plan: {
      summary: 'Show what the controller would change on the server, and change nothing',
      load: async () => (await import('./controller-plan.ts')).controllerPlan
    },
    lint: {
      summary: 'Find manifests that give identities to more pods than meant, or run servers and agents wrongly',
      load: async () => (await import('./controller-lint.ts')).controllerLint
    }
  }
}
