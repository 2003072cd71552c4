import type { CommandGroup } from '../command.ts'

export const bundleCommands: CommandGroup = {
  summary: 'Bundles: the public keys of this and of federated trust domains',
  commands: {
    show: {
      summary: 'Print this trust domain\'s bundle',
      load: async () => (await import('./bundle-show.ts')).bundleShow
    },
    list: {
      summary: 'Print federated bundles',
      load: async () => (await import('./bundle-list.ts')).bundleList
    },
    count: {
      summary: 'Count bundles, this trust domain\'s own among them',
      load: async () => (await import('./bundle-count.ts')).bundleCount
    },
    set: {
      summary: 'Store a federated bundle',
      load: async () => (await import('./bundle-set.ts')).bundleSet
    },
    delete: {
      summary: 'Delete a federated bundle',
      load: async () => (await import('./bundle-delete.ts')).bundleDelete
    },
    sign: {
      summary: 'Sign the bundle, for places that others may write to',
      load: async () => (await import('./bundle-sign.ts')).bundleSign
    }
  }
}
