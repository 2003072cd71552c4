import type { CommandGroup } from '../command.ts'

export const redirectCommands: CommandGroup = {
  summary: 'Make what workloads connect to arrive at the node\'s proxy, without their help',
  commands: {
    plan: {
      summary: 'Print the rules that apply would write',
      load: async () => (await import('./redirect-plan.ts')).redirectPlan
    },
    apply: {
      summary: 'Redirect a namespace, a user or a control group',
      load: async () => (await import('./redirect-apply.ts')).redirectApply
    },
    list: {
      summary: 'Show what is redirected, and how much came that way',
      load: async () => (await import('./redirect-list.ts')).redirectList
    },
    remove: {
      summary: 'Take the rules away again',
      load: async () => (await import('./redirect-remove.ts')).redirectRemove
    }
  }
}
