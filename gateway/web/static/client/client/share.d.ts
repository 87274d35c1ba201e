import type { Share } from '../client.js';

export declare const share: Share;
