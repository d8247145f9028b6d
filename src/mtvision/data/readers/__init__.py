"""Data sets on disk: one reader a layout, each fills `DATASETS`.

============== ================ ========================================================================
data set       entry module     its helpers
============== ================ ========================================================================
voc            `voc`            `voc_files` (lists, folders), `voc_xml`, `voc_download`, `instance_maps`
coco           `coco`           `coco_instances` (its JSON), `coco_files`, `regions`
coco_panoptic  `coco_panoptic`  `coco_panoptic_json`, `coco_files`, `regions`
yolo           `yolo`           `yolo_labels`, `regions`
folder         `folder`         `boxes_table`, `yolo_labels`, `regions`
shapes         `shapes`         `drawing`
============== ================ ========================================================================

`torchvision` wraps torchvision's own data sets. All read files by `files`; those but voc are a `FileSet` of `file_set`.
"""
